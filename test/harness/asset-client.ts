/** Uploads static files by scripted requests, as wrangler does. */
import { blake3 } from '@noble/hashes/blake3.js'
import { extname } from 'node:path'
import { ACCOUNT_ID } from '../../wrangler-compat/api/ports.ts'
import { SCRIPTS, type Answer, type WranglerPlace } from './wrangler-place.ts'

export const UPLOAD = `/accounts/${ACCOUNT_ID}/workers/assets/upload`

export interface TestAsset {
  readonly body: string | Uint8Array
  /** As wrangler derives it from the path. */
  readonly contentType?: string
}

export type TestAssets = Readonly<Record<string, TestAsset>>

export function hashOf(path: string, body: string | Uint8Array): string {
  const text = Buffer.from(body).toString('base64') + extname(path).slice(1)
  return Buffer.from(blake3(Buffer.from(text)))
    .toString('hex')
    .slice(0, 32)
}

export function manifestOf(assets: TestAssets): Record<string, { hash: string; size: number }> {
  return Object.fromEntries(
    Object.entries(assets).map(([path, { body }]) => [
      path,
      { hash: hashOf(path, body), size: Buffer.from(body).byteLength },
    ]),
  )
}

export function beginUpload(place: WranglerPlace, script: string, assets: TestAssets): Promise<Answer> {
  return place.call('POST', `${SCRIPTS}/${script}/assets-upload-session`, { manifest: manifestOf(assets) })
}

/** One request with these files, each in base64. */
export function sendBucket(
  place: WranglerPlace,
  {
    jwt,
    hashes,
    assets,
  }: { readonly jwt: string; readonly hashes: readonly string[]; readonly assets: TestAssets },
): Promise<Answer> {
  const form = new FormData()
  for (const hash of hashes) {
    const [, asset] = Object.entries(assets).find(([path, { body }]) => hashOf(path, body) === hash) ?? []
    if (asset === undefined) throw new Error(`the node asked for ${hash}, which is none of the files`)
    const { body, contentType = 'application/null' } = asset
    form.append(hash, new File([Buffer.from(body).toString('base64')], hash, { type: contentType }), hash)
  }
  return place.call('POST', `${UPLOAD}?base64=true`, form, { headers: { authorization: `Bearer ${jwt}` } })
}

/** All that the node asks for, three requests at a time; resolves with the completion token. */
export async function uploadAssets(
  place: WranglerPlace,
  script: string,
  assets: TestAssets,
): Promise<string> {
  const session = await beginUpload(place, script, assets)
  if (!session.success) throw new Error(session.errors[0]?.message)
  const { jwt, buckets } = session.result as { jwt: string; buckets: string[][] }
  if (buckets.flat().length === 0) return jwt
  let completion = ''
  const queue = [...buckets]
  const work = async (): Promise<void> => {
    for (let hashes = queue.shift(); hashes !== undefined; hashes = queue.shift()) {
      const answer = await sendBucket(place, { jwt, hashes, assets })
      if (!answer.success) throw new Error(answer.errors[0]?.message)
      completion = (answer.result as { jwt?: string }).jwt ?? completion
    }
  }
  await Promise.all([work(), work(), work()])
  if (completion === '') throw new Error('no completion token came')
  return completion
}
