import { IsolaError } from '../../sdk/model/errors.ts'
import { PREVIEW_ID_LENGTH } from '../../sdk/model/function.ts'
import type { Registry } from '../registry/registry.ts'

/**
 * Full ids of versions that may be given by 8 or more of their first digits, in the given order. Throws
 * `invalid_argument` for what is no id or means several versions, `version_not_found`.
 */
export async function findVersionIds(
  registry: Registry,
  functionName: string,
  texts: readonly string[],
): Promise<string[]> {
  const ids = await registry.listVersionIds(functionName)
  return texts.map((text) => {
    const prefix = text.toLowerCase()
    if (!/^[0-9a-f]+$/.test(prefix) || prefix.length < PREVIEW_ID_LENGTH || prefix.length > 32) {
      throw new IsolaError(
        'invalid_argument',
        `version ${JSON.stringify(text.slice(0, 64))} is no version id: give ${PREVIEW_ID_LENGTH} to 32 of its hex digits, as "isola versions ${functionName}" lists them`,
      )
    }
    const matches = ids.filter((id) => id.startsWith(prefix))
    const [match] = matches
    if (matches.length > 1) {
      throw new IsolaError(
        'invalid_argument',
        `version "${text}" of "${functionName}" is short for ${matches.length} versions (${matches.slice(0, 5).join(', ')}): give more digits`,
      )
    }
    if (match === undefined) {
      throw new IsolaError(
        'version_not_found',
        `"${functionName}" has no version ${text}: "isola versions ${functionName}" lists the ${ids.length} it has`,
      )
    }
    return match
  })
}
