/** Archives as clients send them: build contexts, and images as `docker save` and OCI tools write them. */
import { createHash } from 'node:crypto'
import { request, type IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { extract, pack } from 'tar-stream'

export type Files = Readonly<Record<string, string | Buffer>>

export async function tarOf(files: Files): Promise<Buffer> {
  const tar = pack()
  for (const [name, content] of Object.entries(files)) tar.entry({ name }, content)
  tar.finalize()
  return await joined(tar as AsyncIterable<Buffer>)
}

export async function filesOf(tar: AsyncIterable<Uint8Array>): Promise<Record<string, Buffer>> {
  const entries = extract()
  const files: Record<string, Buffer> = {}
  const reading = (async () => {
    for await (const entry of entries) {
      const content = await joined(entry as AsyncIterable<Buffer>)
      if (entry.header.type === 'file') files[entry.header.name] = content
    }
  })()
  await Promise.all([pipeline(Readable.from(tar), entries), reading])
  return files
}

async function joined(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** In pieces, as it comes from a socket. */
export async function* inPieces(bytes: Buffer, pieceBytes = 10_000): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += pieceBytes) {
    yield bytes.subarray(start, start + pieceBytes)
  }
}

/** `docker save`. */
export async function savedImage(socketPath: string, reference: string): Promise<Record<string, Buffer>> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request({ socketPath, path: `/images/${encodeURIComponent(reference)}/get`, headers: { host: 'engine' } })
      .on('response', resolve)
      .on('error', reject)
      .end()
  })
  return filesOf(response as AsyncIterable<Uint8Array>)
}

interface SavedManifest {
  readonly Config: string
  readonly Layers: readonly string[]
}

/** The same image as an OCI layout without any document of Docker's. */
export function layoutOf(
  saved: Record<string, Buffer>,
  platforms: readonly { readonly os: string; readonly architecture: string }[],
): Record<string, Buffer> {
  const files: Record<string, Buffer> = { 'oci-layout': Buffer.from('{"imageLayoutVersion":"1.0.0"}') }
  const put = (content: Buffer): { digest: string; size: number } => {
    const hex = createHash('sha256').update(content).digest('hex')
    files[`blobs/sha256/${hex}`] = content
    return { digest: `sha256:${hex}`, size: content.length }
  }
  const [manifest] = JSON.parse(String(saved['manifest.json'])) as [SavedManifest]
  const config = put(saved[manifest.Config]!)
  const layers = manifest.Layers.map((path) => put(saved[path]!))
  const described = put(Buffer.from(JSON.stringify({ schemaVersion: 2, config, layers })))
  const manifests = platforms.map((platform) => ({ ...described, platform }))
  const nested = put(Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })))
  const mediaType = 'application/vnd.oci.image.index.v1+json'
  files['index.json'] = Buffer.from(
    JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType, ...nested }] }),
  )
  return files
}
