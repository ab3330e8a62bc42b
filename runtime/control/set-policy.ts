import type { FunctionRecord } from '../../sdk/model/function.ts'
import { parsePolicy } from '../../sdk/model/policy.ts'
import { findFunction, withFunction } from './find-function.ts'
import { untilLive } from './go-live.ts'
import type { ControlPorts } from './ports.ts'

/** Changes the named fields of a function's policy. Throws `invalid_argument` and changes nothing for a bad one. */
export async function setPolicy(
  ports: ControlPorts,
  functionName: string,
  patch: Readonly<Record<string, unknown>>,
): Promise<FunctionRecord> {
  const head = await ports.registry.swap((head) => {
    const record = findFunction(head, functionName)
    return withFunction(head, { ...record, policy: parsePolicy(patch, record.policy) })
  })
  await untilLive(ports, head)
  return findFunction(head, functionName)
}
