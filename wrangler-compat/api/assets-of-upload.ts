import type { StaticAssets } from '../../sdk/model/function.ts'
import { CloudflareError } from './api-error.ts'
import type { ApiCall } from './endpoint.ts'

/** The assets that an upload's metadata names by its completion token. Throws `invalidScript`. */
export async function assetsOfUpload(
  _call: ApiCall,
  options: {
    readonly functionName: string
    readonly jwt: string | undefined
    /** As it came: `html_handling`, `not_found_handling`, `run_worker_first`, `_redirects`, `_headers`. */
    readonly config: unknown
  },
): Promise<StaticAssets> {
  throw new CloudflareError('invalidScript', `"${options.functionName}" has assets, which are not taken yet`)
}
