/**
 * Asks an instance to collect garbage when its memory comes near its limit. The guest collects by requests, but a
 * WebSocket's messages, a long stream or large values make garbage without any; the kernel would end the instance for
 * memory that nobody uses. Without an agent this stops, and V8's own limits remain.
 */

/** Share of the limit from which it is asked. */
const NEAR_LIMIT = 0.6
/** A collection takes a few milliseconds of the function's time: at most so often. */
const INTERVAL_MS = 250

export interface Relief {
  /** Told of every measurement of the instance's memory. */
  observe(memoryBytes: number, nowMs: number): void
}

export function createRelief(options: { readonly limitBytes: number; readonly collect: () => void }): Relief {
  let askedAtMs = Number.NEGATIVE_INFINITY
  return {
    observe(memoryBytes, nowMs) {
      if (memoryBytes < NEAR_LIMIT * options.limitBytes || nowMs - askedAtMs < INTERVAL_MS) return
      askedAtMs = nowMs
      options.collect()
    },
  }
}
