/**
 * Asks an instance to collect garbage when its memory comes near its limit. The guest collects by requests, but a
 * WebSocket's messages, a long stream or large values make garbage without any; the kernel would end the instance for
 * memory that nobody uses. Without an agent this stops, and V8's own limits remain.
 *
 * What is still there after a collection is in use: asking for it again would only cost (400 MiB of live objects: a
 * quarter of a second each time). So the next one is due when a part of the room that was left has been filled.
 */

/** Share of the limit from which it is asked. */
const NEAR_LIMIT = 0.6
/** Of the room between what is in use and the limit. */
const FILLED_SHARE = 0.25
/** A collection takes a few milliseconds of the function's time: at most so often. */
const INTERVAL_MS = 250

export interface Relief {
  /** Told of every measurement of the instance's memory. */
  observe(memoryBytes: number, nowMs: number): void
}

/** `collect` answers false where the instance cannot be asked now. */
export function createRelief(options: {
  readonly limitBytes: number
  readonly collect: () => boolean
}): Relief {
  const { limitBytes, collect } = options
  let askedAtMs = Number.NEGATIVE_INFINITY
  /** The least since it was last asked. */
  let inUseBytes = 0
  return {
    observe(memoryBytes, nowMs) {
      inUseBytes = Math.min(inUseBytes, memoryBytes)
      const dueBytes = Math.max(
        NEAR_LIMIT * limitBytes,
        inUseBytes + FILLED_SHARE * (limitBytes - inUseBytes),
      )
      if (memoryBytes < dueBytes || nowMs - askedAtMs < INTERVAL_MS) return
      if (!collect()) return
      askedAtMs = nowMs
      inUseBytes = memoryBytes
    },
  }
}
