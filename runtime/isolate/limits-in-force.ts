import { DEFAULT_FUNCTION_LIMITS } from '../../sdk/model/function-limits.ts'
import type { Version } from '../../sdk/model/function.ts'
import type { StartOptions } from '../pool/driver.ts'

/** What an instance of the version runs with: what the node says, else what the version asks for, else the default. */
export function limitsInForce(version: Version, inForce: Partial<StartOptions> = {}): StartOptions {
  const asked = version.content.limits
  return {
    memoryMib: inForce.memoryMib ?? asked.memoryMib ?? DEFAULT_FUNCTION_LIMITS.memoryMib,
    cpuMs: inForce.cpuMs ?? asked.cpuMs ?? DEFAULT_FUNCTION_LIMITS.cpuMs,
  }
}
