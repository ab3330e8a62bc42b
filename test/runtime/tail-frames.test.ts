import { describe, expect, test } from 'vitest'
import {
  FrameReader,
  OPCODE,
  serverFrame,
  type ClientFrame,
  type FrameFault,
} from '../../runtime/node/tail/frame-reader.ts'

const MAX = 100_000

/** A client's frame; `mask` as most clients send it. */
function frame(
  opcode: number,
  payload: string | Buffer,
  options: { mask?: boolean; final?: boolean; reserved?: boolean } = {},
): Buffer {
  const plain = serverFrame(opcode, Buffer.from(payload))
  if (options.final === false) plain[0]! &= 0x7f
  if (options.reserved === true) plain[0]! |= 0x40
  if (options.mask !== true) return plain
  const body = Buffer.from(payload)
  const head = plain.subarray(0, plain.length - body.length)
  head[1]! |= 0x80
  const mask = Buffer.from([1, 2, 3, 4])
  return Buffer.concat([head, mask, body.map((byte, index) => byte ^ mask[index & 3]!)])
}

function read(bytes: Buffer, pieceBytes = bytes.length): (ClientFrame | FrameFault)[] {
  const reader = new FrameReader(MAX)
  const found: (ClientFrame | FrameFault)[] = []
  for (let at = 0; at < bytes.length; at += pieceBytes)
    found.push(...reader.push(bytes.subarray(at, at + pieceBytes)))
  return found
}

describe('frames of a client', () => {
  test.each([
    ['short', 'debug'],
    ['of 126 bytes', 'x'.repeat(126)],
    ['long', 'y'.repeat(70_000)],
    ['empty', ''],
  ])('that are %s are read masked and unmasked, in one piece or byte by byte', (_, text) => {
    for (const mask of [true, false]) {
      const bytes = Buffer.concat([frame(OPCODE.text, text, { mask }), frame(OPCODE.ping, 'p', { mask })])
      const expected = [
        { type: 'text', text },
        { type: 'ping', payload: Buffer.from('p') },
      ]
      expect(read(bytes)).toEqual(expected)
      expect(read(bytes, text.length > 1_000 ? 1_000 : 1)).toEqual(expected)
    }
  })

  test('of one message in parts are one text, with what comes between them in its place', () => {
    const bytes = Buffer.concat([
      frame(OPCODE.text, 'deb', { final: false }),
      frame(OPCODE.pong, ''),
      frame(OPCODE.continuation, 'u', { final: false, mask: true }),
      frame(OPCODE.continuation, 'g'),
    ])
    expect(read(bytes, 1).map(({ type }) => type)).toEqual(['pong', 'text'])
    expect(read(bytes).at(-1)).toEqual({ type: 'text', text: 'debug' })
  })

  test('that are empty parts of a message are not held', () => {
    const reader = new FrameReader(MAX)
    reader.push(frame(OPCODE.text, 'x', { final: false }))
    const before = process.memoryUsage().heapUsed
    expect(reader.push(Buffer.alloc(2_000_000))).toEqual([])
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(100_000_000)
    expect(reader.push(frame(OPCODE.continuation, 'y'))).toEqual([{ type: 'text', text: 'xy' }])
  })

  test('that close the connection name a code, or none', () => {
    expect(read(frame(OPCODE.close, Buffer.from([3, 232])))).toEqual([{ type: 'close', code: 1000 }])
    expect(read(frame(OPCODE.close, ''))).toEqual([{ type: 'close', code: 1005 }])
  })

  test.each([
    ['a reserved bit', frame(OPCODE.text, 'x', { reserved: true }), 1002],
    ['an unknown opcode', frame(3, 'x'), 1002],
    ['a ping in parts', frame(OPCODE.ping, 'x', { final: false }), 1002],
    ['a ping of 126 bytes', frame(OPCODE.ping, 'x'.repeat(126)), 1002],
    ['a close code of one byte', frame(OPCODE.close, 'x'), 1002],
    ['a part without a beginning', frame(OPCODE.continuation, 'x'), 1002],
    [
      'a second beginning',
      Buffer.concat([frame(OPCODE.text, 'x', { final: false }), frame(OPCODE.text, 'x')]),
      1002,
    ],
    ['what is not UTF-8', frame(OPCODE.text, Buffer.from([0xff, 0xfe])), 1007],
    ['more bytes than a message may have', frame(OPCODE.text, 'x'.repeat(MAX + 1)).subarray(0, 10), 1009],
    [
      'the same in parts',
      Buffer.concat([
        frame(OPCODE.text, 'x'.repeat(60_000), { final: false }),
        frame(OPCODE.continuation, 'x'.repeat(60_000)),
      ]),
      1009,
    ],
  ])('with %s are a fault, and nothing is read behind it', (_, bytes, code) => {
    const found = read(Buffer.concat([bytes, frame(OPCODE.text, 'behind')]))
    expect(found).toHaveLength(1)
    expect(found[0]).toMatchObject({ type: 'fault', code })
  })

  test('of binary data are known for what they are', () => {
    expect(read(frame(OPCODE.binary, 'x', { mask: true }))).toEqual([{ type: 'binary' }])
  })
})
