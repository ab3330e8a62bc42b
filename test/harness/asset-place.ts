/** Static files on a disk as the agent puts them there, for a router of a test. */
import { createHash } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { AssetFile, AssetsConfig } from '../../sdk/model/function.ts'
import { assetFilePath, assetSitePath, type AssetSite } from '../../runtime/pool/asset-site.ts'

export interface SiteFiles {
  readonly files: Readonly<Record<string, string | Buffer>>
  readonly config?: AssetsConfig
  readonly hasCode?: boolean
  readonly navigationsAreFiles?: boolean
}

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript',
  css: 'text/css',
}

export function sha256Of(body: string | Buffer): string {
  return createHash('sha256').update(body).digest('hex')
}

export function makeSite({
  files,
  config = {},
  hasCode = false,
  navigationsAreFiles = true,
}: SiteFiles): AssetSite {
  const entries = Object.entries(files).map(([path, body]): [string, AssetFile] => {
    const contentType = TYPES[path.slice(path.lastIndexOf('.') + 1)]
    const sizeBytes = Buffer.byteLength(body)
    return [path, { sha256: sha256Of(body), sizeBytes, ...(contentType !== undefined && { contentType }) }]
  })
  return { files: Object.fromEntries(entries), config, hasCode, navigationsAreFiles }
}

export class AssetPlace {
  readonly directory: string

  constructor(directory: string) {
    this.directory = directory
    for (const folder of ['files', 'sites']) mkdirSync(join(directory, folder), { recursive: true })
  }

  put(versionId: string, site: SiteFiles): void {
    for (const body of Object.values(site.files))
      writeFileSync(assetFilePath(this.directory, sha256Of(body)), body)
    writeFileSync(assetSitePath(this.directory, versionId), JSON.stringify(makeSite(site)))
  }

  /** Other bytes under the same name, or none. */
  damage(body: string | Buffer, instead: string | Buffer | undefined): void {
    const path = assetFilePath(this.directory, sha256Of(body))
    if (instead === undefined) rmSync(path)
    else writeFileSync(path, instead)
  }
}
