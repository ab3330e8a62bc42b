/**
 * What is wrong with an uploaded script, in the words that wrangler works with: it maps the frames of a start's error back
 * to the sources where the message reads as V8's own, and takes "no such Worker" for the script itself, so a service
 * binding that leads nowhere needs a code of its own.
 */
import { isIsolaError } from '../../../sdk/model/errors.ts'
import { CloudflareError } from '../api-error.ts'

const SERVICE_NOT_FOUND = 10143

export async function asScriptErrors<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (!isIsolaError(error)) throw error
    if (error.code === 'version_refused') {
      throw new CloudflareError('invalidScript', startFailure(error), { cause: error })
    }
    if (error.code === 'function_not_found' && error.details?.['binding'] !== undefined) {
      throw new CloudflareError('invalidScript', error.message, { cause: error, code: SERVICE_NOT_FOUND })
    }
    throw error
  }
}

/** Of the node's own words before it: who uploads knows which script it is. */
const PREFIX = /^function "[^"]*" did not start: /

function startFailure(error: Error): string {
  const message = (error.cause instanceof Error ? error.cause : error).message.replace(PREFIX, '')
  const lines = message.split('\n').map((line) => line.replace(/^ +at /, '  at '))
  return /^\w*Error\b/.test(message) ? `Uncaught ${lines.join('\n')}\n` : lines.join('\n')
}
