/** Frames of `application/vnd.amazon.eventstream`, in which a streamed response travels. Integers are big-endian. */
import { crc32 } from 'node:zlib'

const STRING_HEADER = 7
const PRELUDE_BYTES = 12
const CRC_BYTES = 4

/** `[total][length of headers][crc of both][headers][payload][crc of all before]`. */
export function eventFrame(headers: Readonly<Record<string, string>>, payload: Uint8Array): Uint8Array {
  const head = Buffer.concat(Object.entries(headers).map(([name, value]) => encodeHeader(name, value)))
  const totalBytes = PRELUDE_BYTES + head.byteLength + payload.byteLength + CRC_BYTES
  const frame = Buffer.alloc(totalBytes)
  frame.writeUInt32BE(totalBytes, 0)
  frame.writeUInt32BE(head.byteLength, 4)
  frame.writeUInt32BE(crc32(frame.subarray(0, 8)), 8)
  head.copy(frame, PRELUDE_BYTES)
  frame.set(payload, PRELUDE_BYTES + head.byteLength)
  frame.writeUInt32BE(crc32(frame.subarray(0, totalBytes - CRC_BYTES)), totalBytes - CRC_BYTES)
  return frame
}

function encodeHeader(name: string, value: string): Buffer {
  const nameBytes = Buffer.from(name)
  const valueBytes = Buffer.from(value)
  const head = Buffer.alloc(1 + nameBytes.byteLength + 3)
  head.writeUInt8(nameBytes.byteLength, 0)
  nameBytes.copy(head, 1)
  head.writeUInt8(STRING_HEADER, 1 + nameBytes.byteLength)
  head.writeUInt16BE(valueBytes.byteLength, 2 + nameBytes.byteLength)
  return Buffer.concat([head, valueBytes])
}
