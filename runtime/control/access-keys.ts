import { z } from 'zod'
import { IsolaError } from '../../sdk/model/errors.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import type { AccessKeys, ControlPorts } from './ports.ts'

export const createKeyRequestSchema = z.strictObject({
  description: z.string().max(CONTROL_LIMITS.messageCharsMax).default(''),
})

/** Throws `not_found` where the node has no Lambda API. */
export function accessKeys({ keys }: ControlPorts): AccessKeys {
  if (keys !== undefined) return keys
  throw new IsolaError('not_found', 'this node has no Lambda API, and so no access keys: ask another node')
}

/** Throws `not_found`. */
export async function deleteKey(
  ports: ControlPorts,
  accessKeyId: string,
): Promise<{ readonly accessKeyId: string }> {
  if (await accessKeys(ports).delete(accessKeyId)) return { accessKeyId }
  throw new IsolaError(
    'not_found',
    `there is no access key ${JSON.stringify(accessKeyId.slice(0, 100))}: "isola keys list" lists those there are`,
  )
}
