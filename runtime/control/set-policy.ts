import type { FunctionRecord } from '../../sdk/model/function.ts'
import { parsePolicy } from '../../sdk/model/policy.ts'
import { findFunction } from './find-function.ts'
import { untilLive } from './go-live.ts'
import type { ControlPorts } from './ports.ts'
import { swapFunction } from './swap-function.ts'

/** Changes the named fields of a function's policy. Throws `invalid_argument` and changes nothing for a bad one. */
export async function setPolicy(
  ports: ControlPorts,
  functionName: string,
  patch: Readonly<Record<string, unknown>>,
): Promise<FunctionRecord> {
  const { head, record } = await swapFunction(ports, (head) => {
    const record = findFunction(head, functionName)
    return { ...record, policy: parsePolicy(patch, record.policy) }
  })
  await untilLive(ports, head)
  return record
}
