import {
  assetsConfigProblems,
  normalAssetsConfig,
  parseAssetManifest,
} from '../../sdk/model/asset-manifest.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { StaticAssets, VersionContent } from '../../sdk/model/function.ts'
import { inTurns } from '../registry/in-turns.ts'
import type { Registry } from '../registry/registry.ts'

/** The assets in their one normal form. Throws `invalid_argument`. */
export function checkAssetsConfig({ manifest, config }: StaticAssets, mainModule: string): StaticAssets {
  const [problem] = assetsConfigProblems(config)
  if (problem !== undefined) throw new IsolaError('invalid_argument', problem)
  const normal = normalAssetsConfig(config)
  if (mainModule === '' && normal.runWorkerFirst !== undefined) {
    throw new IsolaError(
      'invalid_argument',
      'paths go to the code first, and there is no code to run: serve static files only, or add a main module',
    )
  }
  const { sha256, sizeBytes } = manifest
  return { manifest: { sha256, sizeBytes }, config: normal }
}

/**
 * Every file that a version's manifest names is there, with the size it is said to have: a path that fails at its first
 * request is found here instead. Throws `invalid_argument`, and `blob_missing` that lists the digests.
 */
export async function checkAssetFiles(registry: Registry, content: VersionContent): Promise<void> {
  if (content.kind !== 'worker' || content.assets === undefined) return
  const { files } = parseAssetManifest(await registry.getBlob(content.assets.manifest.sha256))
  const pathByDigest = new Map(Object.entries(files).map(([path, { sha256 }]) => [sha256, path]))
  const digests = [...pathByDigest.keys()]
  const found = await inTurns(digests, (sha256) => registry.blobSizeBytes(sha256))
  const sizeByDigest = new Map(digests.map((sha256, index) => [sha256, found[index]]))
  const missing = digests.filter((sha256) => sizeByDigest.get(sha256) === undefined)
  if (missing.length > 0) {
    const [first = ''] = missing
    throw new IsolaError(
      'blob_missing',
      `${missing.length} of ${digests.length} static files are not uploaded (first: ${pathByDigest.get(first)}): upload them (PUT /v1/blobs/<sha256>), then try again`,
      { details: { missing } },
    )
  }
  for (const [path, { sha256, sizeBytes }] of Object.entries(files)) {
    if (sizeByDigest.get(sha256) === sizeBytes) continue
    throw new IsolaError(
      'invalid_argument',
      `the static file ${JSON.stringify(path.slice(0, 200))} is said to have ${sizeBytes} bytes and has ${sizeByDigest.get(sha256)}: send the size of the uploaded bytes`,
    )
  }
}
