import { z } from 'zod'
import { assetsConfigProblems, normalAssetsConfig } from '../../../sdk/model/asset-manifest.ts'
import type { AssetsConfig, StaticAssets } from '../../../sdk/model/function.ts'
import { ASSET_UPLOAD_LIMITS } from '../../../sdk/model/limits.ts'
import { CloudflareError } from '../api-error.ts'
import type { ApiCall } from '../endpoint.ts'
import { readAssetToken } from './asset-token.ts'

/** As `metadata.assets` of an upload has them. Other keys are left alone. */
const configSchema = z
  .object({
    html_handling: z
      .enum(['auto-trailing-slash', 'force-trailing-slash', 'drop-trailing-slash', 'none'])
      .nullish(),
    not_found_handling: z.enum(['single-page-application', '404-page', 'none']).nullish(),
    run_worker_first: z.union([z.boolean(), z.array(z.string())]).nullish(),
    base_path: z.string().nullish(),
    _redirects: z.string().nullish(),
    _headers: z.string().nullish(),
  })
  .nullish()

/**
 * The static files that an upload of a version stands for by the completion token in its metadata. Throws `invalidScript`
 * that says what is wrong with the token, or names the fields of the configuration.
 */
export async function assetsOfUpload(
  { ports, params }: ApiCall,
  options: {
    readonly functionName: string
    readonly jwt: string | undefined
    /** As it came. */
    readonly config: unknown
  },
): Promise<StaticAssets> {
  const { jwt } = options
  // Of dispatch, a script's function has a name of its own.
  const { namespace, script = options.functionName } = params
  const config = readConfig(options.config)
  if (jwt === undefined || jwt === '') {
    throw refused(
      '"assets" has no "jwt": upload the files first (assets-upload-session), and send the token of their completion',
    )
  }
  const reading = readAssetToken(jwt, { key: ports.token, nowMs: Date.now() })
  if ('problem' in reading) {
    throw refused(
      reading.problem === 'expired'
        ? `the token of the static files is older than the ${Math.floor(ASSET_UPLOAD_LIMITS.sessionMs / 60_000)} minutes for which it is good: deploy again`
        : '"assets.jwt" is no token of this node: send the one that the upload of the files ended with',
    )
  }
  const { kind, owner, manifest } = reading.token
  if (kind !== 'completion') {
    throw refused('not all static files are uploaded: send the token that the last of them is answered with')
  }
  if (owner.account !== ports.accountId || owner.script !== script || owner.namespace !== namespace) {
    throw refused(
      `the static files were uploaded for the Worker ${JSON.stringify(owner.script)}${owner.namespace === undefined ? '' : ` of the dispatch namespace ${JSON.stringify(owner.namespace)}`}, and this is another: upload them for this one`,
    )
  }
  if ((await ports.registry.blobSizeBytes(manifest.sha256)) === undefined) {
    throw refused('the static files of this token are not there any more: deploy again')
  }
  return { manifest, config }
}

/** Throws `invalidScript` that names the fields. */
function readConfig(value: unknown): AssetsConfig {
  const parsed = configSchema.safeParse(value)
  if (!parsed.success) {
    const problems = parsed.error.issues.map(
      ({ path, message }) => `"${['assets', 'config', ...path].join('.')}": ${message}`,
    )
    throw refused(`the configuration of the static files is not right: ${problems.slice(0, 5).join('; ')}`)
  }
  const { html_handling, not_found_handling, run_worker_first, base_path, _redirects, _headers } =
    parsed.data ?? {}
  if (typeof base_path === 'string' && base_path !== '' && base_path !== '/') {
    throw refused(
      `"assets.base_path" is ${JSON.stringify(base_path.slice(0, 100))}, and isola serves static files from "/": remove it`,
    )
  }
  const config = normalAssetsConfig({
    ...(isSet(html_handling) && { htmlHandling: html_handling }),
    ...(isSet(not_found_handling) && { notFoundHandling: not_found_handling }),
    ...(isSet(run_worker_first) && { runWorkerFirst: run_worker_first }),
    ...(isSet(_redirects) && { redirects: _redirects }),
    ...(isSet(_headers) && { headers: _headers }),
  })
  const problems = assetsConfigProblems(config)
  if (problems.length > 0) throw refused(problems.slice(0, 5).join('; '))
  return config
}

function isSet<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined
}

function refused(message: string): CloudflareError {
  return new CloudflareError('invalidScript', message)
}
