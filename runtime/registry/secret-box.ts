/**
 * Secrets of functions as they may be stored: closed with the fleet's key, which lies beside the node's data and never in
 * the bucket. Who reads the bucket reads no secret; who has lost the key sets the secrets anew.
 *
 * AES-256-GCM. The nonce is an HMAC of what is closed, so that one secret of one function is always closed to the same
 * bytes, and deploying it again makes the same version; the price, that equal secrets of one function and name can be seen
 * to be equal, is what that means. Function and name are authenticated: what is closed for one opens for no other.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { IsolaError } from '../../sdk/model/errors.ts'

export interface SecretName {
  readonly functionName: string
  readonly name: string
}

export interface SecretBox {
  seal(secret: SecretName & { readonly text: string }): string
  /** Throws `data_unusable` for what this key did not close, or for another function or name. */
  open(secret: SecretName & { readonly sealed: string }): string
}

const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
const FORMAT = 'v1.'

/** Makes the key at `path` where there is none. Throws `data_unusable` for a file that is no key. */
export function openSecretBox(path: string): SecretBox {
  const key = readKey(path) ?? makeKey(path)
  const derive = (purpose: string): Buffer =>
    Buffer.from(hkdfSync('sha256', key, '', `isola secrets ${purpose}`, KEY_BYTES))
  const cipherKey = derive('cipher')
  const nonceKey = derive('nonce')
  return {
    seal({ functionName, name, text }) {
      const scope = scopeOf({ functionName, name })
      const plain = Buffer.from(text)
      const nonce = createHmac('sha256', nonceKey)
        .update(scope)
        .update(plain)
        .digest()
        .subarray(0, NONCE_BYTES)
      const cipher = createCipheriv('aes-256-gcm', cipherKey, nonce).setAAD(scope)
      const closed = [nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]
      return FORMAT + Buffer.concat(closed).toString('base64url')
    },
    open({ functionName, name, sealed }) {
      const bytes = Buffer.from(sealed.slice(FORMAT.length), 'base64url')
      try {
        if (!sealed.startsWith(FORMAT) || bytes.length < NONCE_BYTES + TAG_BYTES)
          throw new Error('not closed')
        const decipher = createDecipheriv('aes-256-gcm', cipherKey, bytes.subarray(0, NONCE_BYTES), {
          authTagLength: TAG_BYTES,
        })
        decipher.setAAD(scopeOf({ functionName, name }))
        decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
        const plain = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES))
        return Buffer.concat([plain, decipher.final()]).toString('utf8')
      } catch (cause) {
        throw new IsolaError(
          'data_unusable',
          `secret "${name}" of function "${functionName}" cannot be opened with the key ${path}: put back the key that it was set with, or set the secret again`,
          { cause },
        )
      }
    },
  }
}

/** With a length in front, so that no two pairs are the same bytes. */
function scopeOf({ functionName, name }: SecretName): Buffer {
  const first = Buffer.from(functionName)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(first.length)
  return Buffer.concat([length, first, Buffer.from(`${name}\0`)])
}

function readKey(path: string): Buffer | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8').trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  if (new RegExp(`^[0-9a-f]{${2 * KEY_BYTES}}$`).test(text)) return Buffer.from(text, 'hex')
  throw new IsolaError(
    'data_unusable',
    `${path} is not the fleet's key, which is ${2 * KEY_BYTES} hex digits: put the right file back; without it no secret can be opened`,
  )
}

/** Whole or not at all, and never over another: the first of two that make it at once is the one. */
function makeKey(path: string): Buffer {
  const staging = `${path}.${randomBytes(6).toString('hex')}`
  const file = openSync(staging, 'wx', 0o600)
  try {
    fchmodSync(file, 0o600)
    writeSync(file, `${randomBytes(KEY_BYTES).toString('hex')}\n`)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  try {
    linkSync(staging, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(staging)
  }
  const key = readKey(path)
  if (key === undefined) throw new Error(`${path} was removed while it was made`)
  return key
}
