/** Archives as no tool would make them: every field can be a lie. */
import { crc32, deflateRawSync } from 'node:zlib'

export interface HandMadeEntry {
  readonly name: string | Buffer
  readonly body?: string | Uint8Array
  /** Unix mode with type bits. @default a plain file of mode 0644 */
  readonly mode?: number
  readonly compressed?: boolean
  /** As claimed. */
  readonly method?: number
  readonly flags?: number
  readonly crc?: number
  readonly sizeBytes?: number
  readonly packedBytes?: number
  /** The local header of that entry instead of one of its own: many entries share the same bytes. */
  readonly sameAs?: number
}

const UTF8_FLAG = 0x800
const MADE_ON_UNIX = 0x031e

export function handMadeZip(
  entries: readonly HandMadeEntry[],
  options: { readonly count?: number } = {},
): Buffer {
  const parts: Buffer[] = []
  const central: Buffer[] = []
  const offsets: number[] = []
  let offset = 0
  for (const entry of entries) {
    const name = Buffer.from(entry.name)
    const body = Buffer.from(entry.body ?? '')
    const packed = entry.compressed === true ? deflateRawSync(body) : body
    const fields = Buffer.alloc(26)
    fields.writeUInt16LE(20, 0)
    fields.writeUInt16LE(UTF8_FLAG | (entry.flags ?? 0), 2)
    fields.writeUInt16LE(entry.method ?? (entry.compressed === true ? 8 : 0), 4)
    fields.writeUInt32LE(entry.crc ?? crc32(body), 10)
    fields.writeUInt32LE(entry.packedBytes ?? packed.length, 14)
    fields.writeUInt32LE(entry.sizeBytes ?? body.length, 18)
    fields.writeUInt16LE(name.length, 22)
    offsets.push(entry.sameAs === undefined ? offset : offsets[entry.sameAs]!)
    central.push(centralHeader(fields, name, entry.mode ?? 0o100644, offsets.at(-1)!))
    if (entry.sameAs !== undefined) continue
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), fields, name, packed])
    parts.push(local)
    offset += local.length
  }
  const directory = Buffer.concat(central)
  const end = Buffer.alloc(22)
  end.write('PK\x05\x06')
  end.writeUInt16LE(options.count ?? entries.length, 8)
  end.writeUInt16LE(options.count ?? entries.length, 10)
  end.writeUInt32LE(directory.length, 12)
  end.writeUInt32LE(offset, 16)
  return Buffer.concat([...parts, directory, end])
}

function centralHeader(fields: Buffer, name: Buffer, mode: number, offset: number): Buffer {
  const header = Buffer.alloc(46)
  header.write('PK\x01\x02')
  header.writeUInt16LE(MADE_ON_UNIX, 4)
  fields.copy(header, 6)
  header.writeUInt32LE((mode << 16) >>> 0, 38)
  header.writeUInt32LE(offset, 42)
  return Buffer.concat([header, name])
}
