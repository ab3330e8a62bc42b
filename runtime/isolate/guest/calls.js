/* oxlint-disable typescript/unbound-method -- natives are taken unbound on purpose and applied later */
/**
 * What a function sends through a service binding says how deep in calls it is, also where the function makes a new
 * request instead of passing on its own: so functions that call each other in a circle are found out. A function that
 * takes the header away only deceives itself: its limits and those of whom it calls hold all the same.
 */
import { depths } from './__isola_requests.js'

const { apply, defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Reflect
const { values: valuesOf } = Object
const bindCall = Function.prototype.bind.bind(Function.prototype.call)
const setHeader = bindCall(Headers.prototype.set)
const NativeRequest = Request

let watched = false

/** Patched on the one prototype of all service bindings, which has no name that a module could find it by. */
export function watchCalls(env) {
  if (watched || typeof env !== 'object' || env === null) return
  for (const binding of valuesOf(env)) {
    if (typeof binding !== 'object' || binding === null) continue
    const prototype = getPrototypeOf(binding)
    // Vars are plain objects, and those have no fetch.
    if (prototype === null || getOwnPropertyDescriptor(prototype, 'fetch') === undefined) continue
    patch(prototype)
    watched = true
    return
  }
}

function patch(prototype) {
  const descriptor = getOwnPropertyDescriptor(prototype, 'fetch')
  const native = descriptor.value
  const { fetch: value } = {
    fetch(...values) {
      const depth = depths.getStore()
      if (depth === undefined) return apply(native, this, values)
      let sent = values
      try {
        const request = new NativeRequest(...values)
        setHeader(request.headers, 'isola-depth', depth)
        sent = [request]
      } catch {
        // What is no request, the native one refuses in its own words.
      }
      return apply(native, this, sent)
    },
  }
  defineProperty(value, 'length', { value: native.length })
  defineProperty(prototype, 'fetch', { ...descriptor, value })
}
