import type { Instance } from '../pool/driver.ts'

/** More than any answer about itself costs an instance. */
const BUSY_CPU_MS = 200

/**
 * Whether `waitUntil` work is still going on. An instance that gives no answer and computes meanwhile is at work:
 * what it computes may be exactly that.
 */
export async function hasPendingWork(instance: Instance): Promise<boolean> {
  const { cpuMs } = instance.usage()
  return (await instance.pendingWork()) > 0 || instance.usage().cpuMs - cpuMs > BUSY_CPU_MS
}
