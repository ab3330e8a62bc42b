import { isIsolaError } from '../../sdk/model/errors.ts'
import { parseFunctionName } from '../../sdk/model/function.ts'
import { CloudflareError } from './api-error.ts'

/** Throws `invalidScript` for a name that no function can have. */
export function parseScriptName(script: string): string {
  try {
    return parseFunctionName(script)
  } catch (error) {
    if (!isIsolaError(error)) throw error
    throw new CloudflareError(
      'invalidScript',
      `the Worker name ${JSON.stringify(script.slice(0, 100))} is not usable on isola: set "name" of the configuration to 1 to 63 of a-z, 0-9 and inner "-", because it becomes a host name`,
      { cause: error },
    )
  }
}
