/* oxlint-disable typescript/unbound-method -- natives are taken unbound on purpose and applied later */
/**
 * Service bindings as the function sees them: `fetch` goes out as a request, any other name is a method of the callee
 * and goes by RPC. workerd speaks that by itself, on connections that the egress proxy takes to the callee; there one
 * entrypoint of ours (entrypoints.js) takes all calls, so each says which entrypoint it is for, with which props, and
 * how deep in calls of functions by functions it is. The stubs that could say so are nowhere the function could find.
 *
 * Also where the function makes a new request instead of passing on its own, what it sends says that depth: so
 * functions that call each other in a circle are found out. One that takes it away only deceives itself: its limits
 * and those of whom it calls hold all the same.
 */
import { env as importedEnv } from 'cloudflare:workers'
import { depths, requests } from './__isola_requests.js'

const { apply, defineProperty, deleteProperty, get, getOwnPropertyDescriptor, getPrototypeOf } = Reflect
const { entries } = Object
const bindCall = Function.prototype.bind.bind(Function.prototype.call)
const setHeader = bindCall(Headers.prototype.set)
const then = bindCall(Promise.prototype.then)
const resolve = Promise.resolve.bind(Promise)
const map = bindCall(Array.prototype.map)
const NativeRequest = Request
const NativeProxy = Proxy
const NativeError = Error
const now = Date.now

/** JSON of the configuration: what each service binding is, and the names of the stubs that lead there. */
const CALLS = '__isola_calls'

/**
 * workerd keeps one connection a stub, and a connection stays with the instance it was made to. The proxy closes one on
 * which nobody waits (`EGRESS_LIMITS.rpcIdleMs`), but what is sent at that moment would be lost. So calls move on to the
 * next of some stubs: after a pause long before that, and in any case often enough to find instances of a new version.
 */
const STUB_PAUSE_MS = 500
const STUB_USE_MS = 1_000

let isPrepared = false
let depthMax = Infinity

/** There is one object of bindings in a process, whoever is given it. */
export function prepareEnv(env) {
  if (isPrepared || typeof env !== 'object' || env === null) return
  isPrepared = true
  const calls = env[CALLS]
  if (calls === undefined) return
  deleteProperty(env, CALLS)
  depthMax = calls.depthMax
  const stubOf = { __proto__: null }
  for (const [functionName, names] of entries(calls.functions)) {
    const stubs = map(names, (name) => env[name])
    for (let index = 0; index < names.length; index += 1) deleteProperty(env, names[index])
    stubOf[functionName] = takeTurns(stubs)
  }
  for (const [name, { functionName, ...where }] of entries(calls.bindings)) {
    const native = env[name]
    countDepth(native)
    const value = serviceBinding(native, { functionName, where, stub: stubOf[functionName] })
    defineProperty(env, name, { ...getOwnPropertyDescriptor(env, name), value })
  }
}

function takeTurns(stubs) {
  let index = 0
  let sinceMs = 0
  let usedMs = 0
  return () => {
    const nowMs = now()
    if (nowMs - usedMs > STUB_PAUSE_MS || nowMs - sinceMs > STUB_USE_MS) {
      index = (index + 1) % stubs.length
      sinceMs = nowMs
    }
    usedMs = nowMs
    return stubs[index]
  }
}

function serviceBinding(native, callee) {
  const sendRequest = (...values) => apply(native.fetch, native, values)
  return new NativeProxy(native, {
    get(target, key) {
      if (key === 'fetch') return sendRequest
      // What is no method of a callee: symbols, the prototype's own, and what would make a promise of a binding.
      if (typeof key !== 'string' || key === 'then' || key === 'connect' || key in Object.prototype) {
        const value = get(target, key)
        return typeof value === 'function' && key === 'connect'
          ? (...values) => apply(value, target, values)
          : value
      }
      return remoteProperty(callee, [key])
    },
  })
}

/** A method to call, a value to await, or the way to one of either; nothing is sent until it is called or awaited. */
function remoteProperty(callee, path) {
  const ask = () => send(callee, path, undefined)
  return new NativeProxy(() => undefined, {
    apply: (_target, _self, values) => send(callee, path, values),
    get(_target, key) {
      if (typeof key !== 'string') return undefined
      if (key === 'then') return (...reactions) => then(resolve(ask()), ...reactions)
      if (key === 'catch') return (reaction) => then(resolve(ask()), undefined, reaction)
      if (key === 'finally') return (reaction) => resolve(ask()).finally(reaction)
      return remoteProperty(callee, [...path, key])
    },
  })
}

/** `values` of a call; without, the property is read. */
function send({ functionName, where, stub }, path, values) {
  const depth = Number(depths.getStore() ?? 0) + 1
  if (depth > depthMax) {
    throw new NativeError(
      `"${functionName}" is called after ${depthMax} calls of functions by functions, which is the most: look for functions that call each other in a circle`,
    )
  }
  const call = { ...where, depth, requestId: requests.getStore() }
  return values === undefined ? stub().readProperty(call, path) : stub().callMethod(call, path, values)
}

let countsDepth = false

/** Patched on the one prototype of all service bindings, which has no name that a module could find it by. */
function countDepth(binding) {
  if (countsDepth) return
  countsDepth = true
  const prototype = getPrototypeOf(binding)
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

// Before any code of the function, which may import them, too; where its flags forbid that, its first event is early enough.
if (importedEnv?.[CALLS] !== undefined) prepareEnv(importedEnv)
