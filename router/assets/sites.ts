/**
 * The static files of versions, as a router knows them: which versions have any stands in the snapshot; what they are is
 * read and compiled when the first request comes, because most versions with a preview host are never looked at. A
 * version never changes, so what is compiled stays for as long as the version can be asked for, within a bound.
 */
import { readFile } from 'node:fs/promises'
import { ASSET_LIMITS } from '../../sdk/model/limits.ts'
import type { Snapshot } from '../../sdk/model/snapshot.ts'
import { assetFilePath, assetSitePath, type AssetSite } from '../../runtime/pool/asset-site.ts'
import { compileSite, type Site } from './rules/site.ts'

interface Slot {
  readonly functionName: string
  site: Site | undefined
  reading: Promise<string | undefined> | undefined
}

export class Sites {
  #slotByVersionId = new Map<string, Slot>()
  /** Of them, those that are compiled, oldest first. */
  readonly #compiled = new Set<string>()
  #directory = ''

  apply({ assetsDirectory, functions }: Snapshot): void {
    const slots = new Map<string, Slot>()
    for (const { name: functionName, assetVersionIds = [] } of functions) {
      for (const versionId of assetVersionIds) {
        const known = this.#slotByVersionId.get(versionId)
        slots.set(versionId, known ?? { functionName, site: undefined, reading: undefined })
      }
    }
    for (const versionId of this.#compiled) if (!slots.has(versionId)) this.#compiled.delete(versionId)
    this.#slotByVersionId = slots
    this.#directory = assetsDirectory ?? ''
  }

  has(versionId: string): boolean {
    return this.#slotByVersionId.size > 0 && this.#slotByVersionId.has(versionId)
  }

  /** For who names a version by itself: whether it is one of that function. */
  isOf(functionName: string, versionId: string): boolean {
    return this.#slotByVersionId.get(versionId)?.functionName === functionName
  }

  /** `undefined`: it has to be read first. */
  find(versionId: string): Site | undefined {
    return this.#slotByVersionId.get(versionId)?.site
  }

  filePath(sha256: string): string {
    return assetFilePath(this.#directory, sha256)
  }

  /** Resolves when it can be found, or with the reason why not. */
  async read(versionId: string): Promise<string | undefined> {
    const slot = this.#slotByVersionId.get(versionId)
    if (slot === undefined) return 'the version is not live any more'
    slot.reading ??= this.#compile(versionId, slot).finally(() => (slot.reading = undefined))
    return slot.reading
  }

  async #compile(versionId: string, slot: Slot): Promise<string | undefined> {
    try {
      const text = await readFile(assetSitePath(this.#directory, versionId), 'utf8')
      slot.site = compileSite(JSON.parse(text) as AssetSite)
    } catch (error) {
      return (error as Error).message
    }
    this.#compiled.add(versionId)
    this.#evict(versionId)
    return undefined
  }

  #evict(kept: string): void {
    let files = 0
    for (const versionId of this.#compiled) files += this.find(versionId)?.fileCount ?? 0
    for (const versionId of this.#compiled) {
      if (files <= ASSET_LIMITS.compiledFilesMax || versionId === kept) return
      const slot = this.#slotByVersionId.get(versionId)
      files -= slot?.site?.fileCount ?? 0
      if (slot !== undefined) slot.site = undefined
      this.#compiled.delete(versionId)
    }
  }
}
