/**
 * Keeps an isolate's memory flat. workerd holds on to what a request made until the next full garbage collection,
 * and V8, which sees little of that memory, sees no reason for one: a busy hello world grows past 200 MiB.
 *
 * `gc()` would need `--expose-gc`, which makes workerd throw away its compile cache (3 ms of every cold start).
 * Instead V8 is given a reason: memory outside of its heap, much of it, never touched and so never taken from the
 * machine. A WebAssembly memory is that (an ArrayBuffer is filled with zeros, and costs what it says). V8 then
 * collects when it next allocates.
 *
 * A collection pauses for 3 µs per request since the last, and for a part per live object. The least number of
 * requests bounds what is wasted where little lives, the interval bounds it where much lives, and the most bounds the
 * memory whatever the rate.
 */
const { Memory } = WebAssembly
const now = performance.now.bind(performance)

/** 128 MiB in pages of 64 KiB: twice what V8 lets go by. */
const PRESSURE = { initial: 2048, maximum: 2048 }

let requestsMin = Infinity
let requestsMax = Infinity
let intervalMs = 0

let requests = 0
let collectedAtMs = 0

export function collectEvery(schedule) {
  ;({ requestsMin, requestsMax, intervalMs } = schedule)
}

/** Called at the start of each request. */
export function countRequest() {
  requests += 1
  if (requests < requestsMin) return
  const nowMs = now()
  if (requests < requestsMax && nowMs - collectedAtMs < intervalMs) return
  requests = 0
  collectedAtMs = nowMs
  try {
    void new Memory(PRESSURE)
  } catch {
    // No room for the reservation: V8 has collected before it said so.
  }
}
