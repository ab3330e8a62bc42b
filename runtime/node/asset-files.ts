/**
 * Static files of versions that can be asked for, put on this node's disk for the router: `files/<sha256>`, and for each
 * version `sites/<id>.json`, which is written when all its files are there. A name stands for whole content, so a router
 * that goes on without an agent never serves half a file, and a file of many versions is there once.
 *
 * The head does not say which versions have files; their documents do, and each is read once in the life of an agent.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { parseAssetManifest } from '../../sdk/model/asset-manifest.ts'
import {
  numberedVersionIds,
  type AssetFile,
  type FunctionRecord,
  type Head,
  type StaticAssets,
  type Version,
} from '../../sdk/model/function.ts'
import { ASSET_LIMITS } from '../../sdk/model/limits.ts'
import { assetFilePath, assetSitePath, type AssetSite } from '../pool/asset-site.ts'
import type { Registry } from '../registry/registry.ts'

export interface AssetFilesOptions {
  /** Made where it is not there. */
  readonly directory: string
  readonly registry: Pick<Registry, 'getVersion' | 'getBlob'>
  onEvent(line: string): void
}

export class AssetFiles {
  readonly directory: string
  readonly #options: AssetFilesOptions
  /** Whether it has static files. */
  readonly #hasFilesById = new Map<string, boolean>()
  readonly #onDisk = new Set<string>()
  readonly #writingById = new Map<string, Promise<void>>()
  /** Being deployed: no head names them yet, and their files stay for one collection and up to the next. */
  #preparedIds = new Set<string>()
  #preparedBefore: ReadonlySet<string> = new Set()
  #collecting: Promise<void> | undefined

  constructor(options: AssetFilesOptions) {
    this.directory = options.directory
    this.#options = options
  }

  /**
   * For the snapshot, once `ready` has resolved for its head. One whose document could not be read is among them: the router
   * shall refuse what it asks for, and not go to code that may not be there.
   */
  versionIdsOf(record: FunctionRecord): readonly string[] {
    if (record.kind !== 'worker') return []
    return askedIds(record).filter((id) => this.#hasFilesById.get(id) !== false)
  }

  /** Whether nothing is left to be read or written for this head. */
  isReady(head: Head): boolean {
    return workers(head).every((record) =>
      askedIds(record).every((id) => {
        const hasFiles = this.#hasFilesById.get(id)
        return hasFiles === false || (hasFiles === true && this.#onDisk.has(id))
      }),
    )
  }

  /** Resolves when all is there that can be had: false where something could not, which was told to the operator. */
  async ready(head: Head): Promise<boolean> {
    const wanted = workers(head).flatMap((record) =>
      askedIds(record)
        .filter((id) => this.#hasFilesById.get(id) !== false && !this.#onDisk.has(id))
        .map((id) => ({ functionName: record.name, id })),
    )
    const outcomes = await inTurns(wanted, async ({ functionName, id }) => {
      try {
        const version = await this.#options.registry.getVersion(functionName, id)
        if (version === undefined) this.#hasFilesById.set(id, false)
        else await this.#put(version)
        return true
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        this.#options.onEvent(
          `static files of "${functionName}", version ${id}, are not on this node: ${why}`,
        )
        return false
      }
    })
    return !outcomes.includes(false)
  }

  /** Before a version goes live: then its deploy waits for its files, and no other does. Throws what the registry throws. */
  async prepare(version: Version): Promise<void> {
    this.#preparedIds.add(version.id)
    await this.#put(version)
  }

  /** Removes what no version of this head names. */
  async collect(head: Head): Promise<void> {
    this.#collecting ??= this.#collect(head).finally(() => (this.#collecting = undefined))
    await this.#collecting
  }

  async #collect(head: Head): Promise<void> {
    // Of a version that is on its way files are found before its site names them; and new ones wait for the end of this.
    await Promise.allSettled(this.#writingById.values())
    const kept = new Set([...workers(head).flatMap(askedIds), ...this.#preparedIds, ...this.#preparedBefore])
    this.#preparedBefore = this.#preparedIds
    this.#preparedIds = new Set()
    for (const id of this.#hasFilesById.keys()) if (!kept.has(id)) this.#hasFilesById.delete(id)
    const named = new Set<string>()
    for (const name of await namesIn(join(this.directory, 'sites'))) {
      const id = name.slice(0, name.indexOf('.'))
      const path = join(this.directory, 'sites', name)
      if (kept.has(id) && path === assetSitePath(this.directory, id)) {
        for (const sha256 of await digestsOf(path)) named.add(sha256)
      } else {
        this.#onDisk.delete(id)
        await rm(path, { force: true })
      }
    }
    for (const name of await namesIn(join(this.directory, 'files'))) {
      if (!named.has(name)) await rm(assetFilePath(this.directory, name), { force: true })
    }
  }

  #put(version: Version): Promise<void> {
    const { id, content } = version
    const assets = content.kind === 'worker' ? content.assets : undefined
    this.#hasFilesById.set(id, assets !== undefined)
    if (assets === undefined || this.#onDisk.has(id)) return Promise.resolve()
    let writing = this.#writingById.get(id)
    if (writing === undefined) {
      writing = this.#write(version, assets).finally(() => this.#writingById.delete(id))
      this.#writingById.set(id, writing)
    }
    return writing
  }

  async #write({ id, content }: Version, { manifest, config }: StaticAssets): Promise<void> {
    const { registry } = this.#options
    await this.#collecting
    for (const folder of ['files', 'sites'])
      await mkdir(join(this.directory, folder), { recursive: true, mode: 0o700 })
    const { files } = parseAssetManifest(await registry.getBlob(manifest.sha256))
    const fileBySha256 = new Map(Object.values(files).map((file) => [file.sha256, file]))
    await inTurns([...fileBySha256.values()], (file) => this.#putFile(file))
    const site: AssetSite = {
      files,
      config,
      hasCode: content.kind === 'worker' && content.mainModule !== '',
      navigationsAreFiles: content.kind === 'worker' && navigationsAreFiles(content),
    }
    await writeWhole(assetSitePath(this.directory, id), JSON.stringify(site))
    this.#onDisk.add(id)
  }

  /** One of another length was cut by a machine that lost power. */
  async #putFile({ sha256, sizeBytes }: AssetFile): Promise<void> {
    const path = assetFilePath(this.directory, sha256)
    const found = await stat(path).catch(() => undefined)
    if (found?.size === sizeBytes) return
    // The router holds small ones against their digest.
    const synced = sizeBytes > ASSET_LIMITS.cachedFileBytesMax
    await writeWhole(path, await this.#options.registry.getBlob(sha256), { synced })
  }
}

/** Since when Cloudflare gives navigations to the files, and the flags that say so or otherwise. */
function navigationsAreFiles(content: {
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
}): boolean {
  const { compatibilityDate, compatibilityFlags } = content
  if (compatibilityFlags.includes('assets_navigation_prefers_asset_serving')) return true
  if (compatibilityFlags.includes('assets_navigation_has_no_effect')) return false
  return compatibilityDate >= '2025-04-01'
}

function workers(head: Head): readonly FunctionRecord[] {
  return Object.values(head.functions).filter(({ kind }) => kind === 'worker')
}

function askedIds(record: FunctionRecord): string[] {
  const shares = record.deployment.shares.map(({ versionId }) => versionId)
  return [...new Set([...shares, ...record.recentVersionIds, ...numberedVersionIds(record)])]
}

async function inTurns<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (let start = 0; start < items.length; start += ASSET_LIMITS.writesConcurrentMax) {
    const turn = items.slice(start, start + ASSET_LIMITS.writesConcurrentMax)
    results.push(...(await Promise.all(turn.map(work))))
  }
  return results
}

/** Under its name only when it is complete; `synced`: also after the machine lost power. */
async function writeWhole(
  path: string,
  body: Uint8Array | string,
  options: { readonly synced: boolean } = { synced: true },
): Promise<void> {
  const temporary = `${path}.${randomUUID()}`
  try {
    const handle = await open(temporary, 'wx', 0o600)
    try {
      await handle.writeFile(body)
      if (options.synced) await handle.datasync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

async function namesIn(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => [])
}

async function digestsOf(sitePath: string): Promise<string[]> {
  const { files } = JSON.parse(await readFile(sitePath, 'utf8')) as AssetSite
  return Object.values(files).map(({ sha256 }) => sha256)
}
