/**
 * Static files of versions on a node's disk: where the agent puts them and the router finds them. What has a name here
 * is whole: it was moved there once it was complete, and never changes.
 */
import type { AssetManifest, AssetsConfig } from '../../sdk/model/function.ts'

/** All that the router must know of the static files of one version; JSON. */
export interface AssetSite {
  readonly files: AssetManifest['files']
  readonly config: AssetsConfig
  /** Whether there is code behind the files. */
  readonly hasCode: boolean
  /** What is not found is the files' matter where a browser navigates, and not the code's (compatibility flag). */
  readonly navigationsAreFiles: boolean
}

export function assetSitePath(directory: string, versionId: string): string {
  return `${directory}/sites/${versionId}.json`
}

export function assetFilePath(directory: string, sha256: string): string {
  return `${directory}/files/${sha256}`
}
