import { DEFAULT_FUNCTION_LIMITS, LIMITS_BY_KIND } from '../../sdk/model/function-limits.ts'
import type { ContainerVersion } from '../../sdk/model/function.ts'
import type { StartOptions } from '../pool/driver.ts'

/** What an instance of the version runs with: what the node says, else what the version asks for, else the default. */
export function limitsInForce(version: ContainerVersion, inForce: Partial<StartOptions> = {}): StartOptions {
  const asked = version.content.limits
  const { memoryMib, cpuMs } = { ...DEFAULT_FUNCTION_LIMITS, ...LIMITS_BY_KIND.container, ...asked }
  return { memoryMib: inForce.memoryMib ?? memoryMib, cpuMs: inForce.cpuMs ?? cpuMs }
}
