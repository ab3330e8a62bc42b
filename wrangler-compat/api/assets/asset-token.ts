/**
 * The tokens of an upload of static files: one to send files with, and one that stands for all of them being there. They
 * are JWTs, because wrangler looks into them, signed with a key made from the node's token: nothing is kept for a session,
 * so a client that never comes back leaves no session behind, and a restart of the node ends none. Each is bound to
 * account, script and list of files, and ends by itself.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import type { BlobRef } from '../../../sdk/model/function.ts'
import { ASSET_UPLOAD_LIMITS } from '../../../sdk/model/limits.ts'

/** Whose files they are. */
export interface AssetOwner {
  readonly account: string
  readonly script: string
  /** Of dispatch, where the script is in one. */
  readonly namespace?: string
}

export interface AssetToken {
  /** `completion`: all is uploaded, and `manifest` is the version's. `session`: it is the list that was announced. */
  readonly kind: 'session' | 'completion'
  readonly owner: AssetOwner
  readonly manifest: BlobRef
}

export type TokenReading = { readonly token: AssetToken } | { readonly problem: 'forged' | 'expired' }

const claimsSchema = z.object({
  kind: z.enum(['session', 'completion']),
  owner: z.object({ account: z.string(), script: z.string(), namespace: z.string().optional() }),
  manifest: z.object({ sha256: z.string(), sizeBytes: z.number() }),
  exp: z.number(),
})

const HEADER = encode({ alg: 'HS256', typ: 'JWT' })

export function writeAssetToken(token: AssetToken, { key, nowMs }: TokenContext): string {
  const issuedAtS = Math.floor(nowMs / 1000)
  const exp = issuedAtS + Math.floor(ASSET_UPLOAD_LIMITS.sessionMs / 1000)
  const signed = `${HEADER}.${encode({ ...token, iat: issuedAtS, exp })}`
  return `${signed}.${signature(signed, key).toString('base64url')}`
}

export interface TokenContext {
  /** The node's token. */
  readonly key: string
  readonly nowMs: number
}

export function readAssetToken(text: string, { key, nowMs }: TokenContext): TokenReading {
  const [header = '', payload = '', signedBy = '', more] = text
    .slice(0, ASSET_UPLOAD_LIMITS.tokenCharsMax)
    .split('.')
  const expected = signature(`${header}.${payload}`, key)
  const given = Buffer.from(signedBy, 'base64url')
  if (header !== HEADER || more !== undefined || given.length !== expected.length)
    return { problem: 'forged' }
  if (!timingSafeEqual(given, expected)) return { problem: 'forged' }
  const claims = claimsSchema.safeParse(JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')))
  // Signed by this node, and of another release: as good as over.
  if (!claims.success || claims.data.exp * 1000 <= nowMs) return { problem: 'expired' }
  const { kind, manifest, owner } = claims.data
  const { account, script, namespace } = owner
  return {
    token: { kind, manifest, owner: { account, script, ...(namespace !== undefined && { namespace }) } },
  }
}

function signature(text: string, key: string): Buffer {
  const own = createHmac('sha256', key).update('isola static files').digest()
  return createHmac('sha256', own).update(text).digest()
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
