/** One question to the guest of an instance, over its control socket. */
import { request } from 'node:http'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

export interface GuestStatus {
  /** Events that the function handles, e.g. `fetch`. */
  readonly handlers: readonly string[]
  /** `waitUntil` promises not yet settled. */
  readonly pending: number
}

/**
 * Rejects where no sensible answer comes in time: the function may be busy, or it may have taken the guest apart.
 * `/collect` has it collect garbage before it answers.
 */
export async function askGuest(
  controlSocket: string,
  timeoutMs: number,
  path: '/' | '/collect' = '/',
): Promise<GuestStatus> {
  const text = await new Promise<string>((resolve, reject) => {
    const asked = request({ socketPath: controlSocket, path, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        body += chunk
        if (body.length > INSTANCE_LIMITS.controlAnswerBytesMax)
          asked.destroy(new Error('its answer is too long'))
      })
      response.on('end', () => resolve(body))
      response.on('error', reject)
    })
    const timer = setTimeout(() => asked.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
    asked.on('error', reject)
    asked.on('close', () => clearTimeout(timer))
    asked.end()
  })
  const status = JSON.parse(text) as Partial<GuestStatus>
  if (!Array.isArray(status.handlers) || !Number.isInteger(status.pending))
    throw new Error(`unusable answer: ${text}`)
  return status as GuestStatus
}
