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
}

/** Below this share of a core an instance without requests is resting, whatever it has added up. */
const RESTING_CPU_SHARE = 0.2

export class Watchdog {
  readonly #watchById = new Map<string, Watch>()

  /** The router's report on one instance. Returns the CPU burnt without an answer, in ms. */
  onLoad(id: string, load: WatchedLoad, cpuMs: number, nowMs: number): number {
    const watch = this.#watchById.get(id)
    if (watch === undefined || watch.progress !== load.progress || load.inFlight === 0) {
      this.#watchById.set(id, {
        progress: load.progress,
        cpuMsAtProgress: cpuMs,
        cpuMsAtTick: cpuMs,
        tickAtMs: nowMs,
        inFlight: load.inFlight,
      })
      return 0
    }
    watch.inFlight = load.inFlight
    return cpuMs - watch.cpuMsAtProgress
  }

  /** For instances with nothing in flight (`waitUntil` work): CPU burnt since they were last at rest, in ms. */
  onTick(id: string, cpuMs: number, nowMs: number): number {
    const watch = this.#watchById.get(id)
    if (watch === undefined) {
      this.#watchById.set(id, {
        progress: 0,
        cpuMsAtProgress: cpuMs,
        cpuMsAtTick: cpuMs,
        tickAtMs: nowMs,
        inFlight: 0,
      })
      return 0
    }
    if (watch.inFlight > 0) return 0
    const share = (cpuMs - watch.cpuMsAtTick) / Math.max(1, nowMs - watch.tickAtMs)
    watch.cpuMsAtTick = cpuMs
    watch.tickAtMs = nowMs
    if (share < RESTING_CPU_SHARE) watch.cpuMsAtProgress = cpuMs
    return cpuMs - watch.cpuMsAtProgress
  }

  forget(id: string): void {
    this.#watchById.delete(id)
  }
}
