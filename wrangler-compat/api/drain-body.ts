import { WRANGLER_API_LIMITS } from '../../sdk/model/limits.ts'

/**
 * Reads and drops what is left of a refused body, to a bound: a client whose connection is closed while it sends reports
 * that, and not the answer.
 */
export async function drainBody(source: AsyncIterator<Uint8Array>): Promise<void> {
  let leftBytes: number = WRANGLER_API_LIMITS.drainBytesMax
  try {
    while (leftBytes > 0) {
      const { done, value } = await source.next()
      if (done === true) return
      leftBytes -= value.byteLength
    }
    await source.return?.()
  } catch {
    // It has ended, and that is all there was to wait for.
  }
}
