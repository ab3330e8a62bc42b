/**
 * Finds the instance that burns CPU and answers nothing. Stock workerd enforces no CPU limit and a loop cannot be
 * interrupted, so what can be seen from outside has to do: the CPU of the process, and the signs of life that the
 * router counts. Whenever a sign of life came, the count starts anew; CPU past the limit without one is a loop.
 *
 * Judged only when the router has reported, never between two reports: a busy instance that answers all the time
 * would look silent in between.
 */
export interface WatchedLoad {
  readonly inFlight: number
  readonly progress: number
}

interface Watch {
  progress: number
  /** CPU of the process when the last sign of life came. */
  cpuMsAtProgress: number
  cpuMsAtTick: number
  tickAtMs: number
  inFlight: number
  /** When it was last at rest: work of what was answered before is done. */
  progressAtRest: number
}

/**
 * Below this share of a core an instance is resting, whatever it has added up. So low, because on a machine that is
 * out of processors a loop gets little more than its fair part.
 */
const RESTING_CPU_SHARE = 0.02

/**
 * The limit is one request's, but CPU is only known of the whole process: requests that run at a time, and the
 * `waitUntil` work of earlier ones, may use their limits together up to here before any of them answers.
 */
const SHARED_CPU_MS_MAX = 2_000

/** CPU that may pass without a sign of life where `requests` may be at work. */
export function allowedCpuMs(limitMs: number, requests: number): number {
  return Math.max(limitMs, Math.min(limitMs * requests, SHARED_CPU_MS_MAX))
}

export class Watchdog {
  readonly #watchById = new Map<string, Watch>()

  /** The router's report on one instance. Returns the CPU burnt without an answer, in ms. */
  onLoad(id: string, load: WatchedLoad, cpuMs: number, nowMs: number): number {
    const watch = this.#watchById.get(id)
    // What was burnt before the first of these requests came is not theirs.
    const isQuiet = load.inFlight === 0 || watch?.inFlight === 0
    if (watch === undefined || watch.progress !== load.progress || isQuiet) {
      this.#watchById.set(id, {
        progress: load.progress,
        cpuMsAtProgress: cpuMs,
        cpuMsAtTick: cpuMs,
        tickAtMs: nowMs,
        inFlight: load.inFlight,
        progressAtRest: watch?.progressAtRest ?? 0,
      })
      return 0
    }
    watch.inFlight = load.inFlight
    return cpuMs - watch.cpuMsAtProgress
  }

  /** CPU that an instance with nothing in flight (`waitUntil` work) burnt since it was last at rest, in ms; else 0. */
  onTick(id: string, cpuMs: number, nowMs: number): number {
    const watch = this.#watchById.get(id)
    if (watch === undefined) {
      this.#watchById.set(id, {
        progress: 0,
        cpuMsAtProgress: cpuMs,
        cpuMsAtTick: cpuMs,
        tickAtMs: nowMs,
        inFlight: 0,
        progressAtRest: 0,
      })
      return 0
    }
    const share = (cpuMs - watch.cpuMsAtTick) / Math.max(1, nowMs - watch.tickAtMs)
    watch.cpuMsAtTick = cpuMs
    watch.tickAtMs = nowMs
    if (share < RESTING_CPU_SHARE) {
      watch.cpuMsAtProgress = cpuMs
      watch.progressAtRest = watch.progress
    }
    if (watch.inFlight > 0) return 0
    return cpuMs - watch.cpuMsAtProgress
  }

  /** Requests whose work the CPU may be: those in flight, and those answered since the instance was last at rest. */
  requestsAtWork(id: string): number {
    const watch = this.#watchById.get(id)
    return watch === undefined ? 1 : watch.inFlight + watch.progress - watch.progressAtRest
  }

  forget(id: string): void {
    this.#watchById.delete(id)
  }
}
