/* oxlint-disable typescript/unbound-method -- natives are taken unbound on purpose and applied later */
/**
 * Watches the contexts of events: counts `waitUntil` and notes `passThroughOnException`. Patched on the one prototype of
 * all contexts, when the first is seen: a context in a Proxy or with methods of its own would fail where workerd wants
 * the real one.
 */
import { logException } from './__isola_prelude.js'

const { apply, defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Reflect
const resolve = Promise.resolve.bind(Promise)
const bindCall = Function.prototype.bind.bind(Function.prototype.call)
const then = bindCall(Promise.prototype.then)
const addMember = bindCall(WeakSet.prototype.add)
const hasMember = bindCall(WeakSet.prototype.has)

/** `waitUntil` promises not yet settled. */
export const work = { pending: 0 }

const passing = new WeakSet()
let watched

/** The function asked for its origin to answer in case it throws. */
export function passesThrough(ctx) {
  return ctx !== undefined && hasMember(passing, ctx)
}

export function watch(ctx) {
  if (watched !== undefined || ctx === undefined || ctx === null) return
  watched = getPrototypeOf(ctx)
  patch('waitUntil', function waitUntil(native, values) {
    const result = apply(native, this, values)
    work.pending += 1
    then(
      resolve(values[0]),
      () => {
        work.pending -= 1
      },
      (thrown) => {
        work.pending -= 1
        logException(thrown)
      },
    )
    return result
  })
  patch('passThroughOnException', function passThroughOnException(native, values) {
    const result = apply(native, this, values)
    addMember(passing, this)
    return result
  })
}

function patch(name, method) {
  const descriptor = getOwnPropertyDescriptor(watched, name)
  const native = descriptor?.value
  if (typeof native !== 'function') return
  const { [name]: value } = {
    [name](...values) {
      return apply(method, this, [native, values])
    },
  }
  defineProperty(value, 'length', { value: native.length })
  defineProperty(watched, name, { ...descriptor, value })
}
