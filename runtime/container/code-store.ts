import assert from 'node:assert'
import { createHash, randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { IsolaError } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { linkTree } from './code-links.ts'
import { unpackCode } from './code-unpack.ts'

/**
 * Unpacked code, by the digest of its archive: unpacked once, then every container has it read-only. A blank is
 * already running when it gets its code, so the files are linked into a directory that it sees: links take a moment
 * where copies take as long as the code is large.
 */
export interface CodeStore {
  /**
   * Directory with the unpacked archive. Throws `version_refused` for an archive that is broken or dangerous: not a zip,
   * `..` or absolute paths, links, more files or bytes than `CONTAINER_LIMITS` allow.
   */
  prepare(archive: { readonly sha256: string; load(): Promise<Uint8Array> }): Promise<string>
  /** Links all of it into `directory`, which is there and empty. */
  place(sha256: string, directory: string): Promise<void>
  /** Removes all but these, unless used a moment ago. */
  collect(kept: ReadonlySet<string>): Promise<void>
}

/**
 * One agent at a time has the directory. Only a rename gives a tree its name, so what has one is whole, whatever was
 * killed when. A crash of the machine is another matter: the rename may reach the disk before the files do. Nothing is
 * synced for that (a file's sync takes longer than all the rest of it); what another boot unpacked is unpacked again.
 */
export async function openCodeStore(options: {
  readonly directory: string
  readonly nowMs?: () => number
}): Promise<CodeStore> {
  const { directory, nowMs = () => performance.now() } = options
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  await clearLeftovers(directory)
  const openedAtMs = nowMs()
  const usedAtMsBySha256 = new Map<string, number>()
  const makingBySha256 = new Map<string, Promise<void>>()
  const pathOf = (sha256: string): string => {
    assert.match(sha256, DIGEST)
    usedAtMsBySha256.set(sha256, nowMs())
    return join(directory, sha256)
  }
  return {
    async prepare({ sha256, load }) {
      const path = pathOf(sha256)
      if (existsSync(path)) return path
      let making = makingBySha256.get(sha256)
      if (making === undefined) {
        making = unpackTo(path, sha256, load).finally(() => makingBySha256.delete(sha256))
        makingBySha256.set(sha256, making)
      }
      await making
      pathOf(sha256)
      return path
    },
    place: (sha256, target) => linkTree(pathOf(sha256), target),
    async collect(kept) {
      const youngest = nowMs() - CONTAINER_LIMITS.codeGraceMs
      for (const name of readdirSync(directory)) {
        const isOld = (usedAtMsBySha256.get(name) ?? openedAtMs) <= youngest
        if (!DIGEST.test(name) || kept.has(name) || !isOld) continue
        usedAtMsBySha256.delete(name)
        await removeTree(join(directory, name))
      }
    },
  }
}

const DIGEST = /^[0-9a-f]{64}$/
const BOOT_FILE = 'boot-id'
const PART = '.part'

async function clearLeftovers(directory: string): Promise<void> {
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')
  const bootFile = join(directory, BOOT_FILE)
  const isSameBoot = existsSync(bootFile) && readFileSync(bootFile, 'utf8') === bootId
  for (const name of readdirSync(directory)) {
    const isTree = DIGEST.test(name)
    if (name.endsWith(PART) || (isTree && !isSameBoot)) await removeTree(join(directory, name))
  }
  writeFileSync(bootFile, bootId)
}

async function unpackTo(path: string, sha256: string, load: () => Promise<Uint8Array>): Promise<void> {
  const archive = await load()
  const found = createHash('sha256').update(archive).digest('hex')
  if (found !== sha256) {
    throw new IsolaError(
      'digest_mismatch',
      `the archive ${sha256} has the digest ${found}: its blob is damaged, deploy the function again`,
    )
  }
  const part = `${path}.${randomBytes(4).toString('hex')}${PART}`
  try {
    await mkdir(part)
    chmodSync(part, 0o755)
    await unpackCode(archive, part)
    renameSync(part, path)
  } catch (error) {
    await rm(part, { recursive: true, force: true })
    if (!['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    throw new IsolaError(
      'storage_full',
      `there is no room to unpack the archive ${sha256} in ${path}: free some disk space of the data directory`,
      { cause: error },
    )
  }
}

/** Loses its name before its files. */
async function removeTree(path: string): Promise<void> {
  const part = path.endsWith(PART) ? path : `${path}.${randomBytes(4).toString('hex')}${PART}`
  if (part !== path) renameSync(path, part)
  await rm(part, { recursive: true, force: true })
}
