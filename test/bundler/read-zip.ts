import { fromBufferPromise } from 'yauzl'

export interface ZipEntry {
  readonly name: string
  /** Permission bits and type, as Unix has them. */
  readonly mode: number
  readonly text: string
}

/** In the order of the archive. */
export async function readZip(bytes: Uint8Array): Promise<ZipEntry[]> {
  const entries: ZipEntry[] = []
  const zip = await fromBufferPromise(Buffer.from(bytes), { lazyEntries: true })
  for await (const entry of zip.eachEntry()) {
    const chunks: Buffer[] = []
    for await (const chunk of await zip.openReadStreamPromise(entry)) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString('utf8')
    entries.push({ name: entry.fileName, mode: entry.externalFileAttributes >>> 16, text })
  }
  return entries
}
