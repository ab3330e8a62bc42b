/**
 * Keeps an isolate's memory flat. workerd holds on to what a request made until the next full garbage collection,
 * and V8, which sees little of that memory, sees no reason for one: a busy hello world grows past 200 MiB.
 *
 * `gc()` would need `--expose-gc`, which makes workerd throw away its compile cache (3 ms of every cold start).
 * Instead V8 is given a reason, and then asked. The reason is memory outside of its heap, much of it, never touched
 * and so never taken from the machine: a WebAssembly memory (an ArrayBuffer is filled with zeros, and costs what it
 * says). It is asked by an allocation that must go to the old generation: a property name too long for the young one.
 */
const { Memory } = WebAssembly
const now = performance.now.bind(performance)
const { max, min } = Math
const repeat = Function.prototype.call.bind(String.prototype.repeat)

/** 128 MiB in pages of 64 KiB: twice what V8 lets go by. */
const PRESSURE = { initial: 2048, maximum: 2048 }
/** Over the 128 KiB of V8's largest regular object. */
const LONG_NAME_LENGTH = 140_000

/**
 * What a collection may cost per request. It pauses for 3 µs per request since the last, and for a part per live
 * object: so a function with much alive is collected less often, and one with next to nothing as often as allowed.
 */
const COST_MS_PER_REQUEST = 0.01
/** A body of so many bytes leaves as much behind as a request without. */
const BODY_BYTES_PER_REQUEST = 4_096

let requestsMin = Infinity
let requestsMax = Infinity

let requestsPerCollection = Infinity
let requests = 0
let collections = 0

export function collectEvery(schedule) {
  ;({ requestsMin, requestsMax } = schedule)
  requestsPerCollection = requestsMin
}

/** Called at the start of each request, with its `content-length`. */
export function countRequest(bodyLength) {
  requests += bodyLength === null ? 1 : 1 + bodyLength / BODY_BYTES_PER_REQUEST
  if (requests >= requestsPerCollection) collect()
}

/** Also called when the host sees memory grow, whatever makes it grow. */
export function collect() {
  requests = 0
  collections += 1
  const startedMs = now()
  try {
    void new Memory(PRESSURE)
  } catch {
    // No room for the reservation: V8 has collected before it said so.
  }
  // Another name each time: V8 knows the last one until it is collected.
  void { [repeat('x', LONG_NAME_LENGTH) + collections]: 0 }
  const affordable = (now() - startedMs) / COST_MS_PER_REQUEST
  // At most twice as many as before: one pause that the machine made long must not make the next one long.
  requestsPerCollection = max(requestsMin, min(requestsMax, affordable, 2 * requestsPerCollection))
}
