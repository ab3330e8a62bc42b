/* oxlint-disable typescript/unbound-method -- natives are taken unbound on purpose and applied later */
/**
 * The callee's side of service bindings: finds what a call is for among the exports of the main module, as workerd
 * would, and runs it as the request that it is part of. The calls that come here are made by calls.js of another
 * instance, never by code of a function.
 */
import { RpcStub, RpcTarget, WorkerEntrypoint } from 'cloudflare:workers'
import { prepareEnv } from './__isola_calls.js'
import { watch } from './__isola_context.js'
import { countRequest } from './__isola_memory.js'
import { depths, requests } from './__isola_requests.js'

const { apply, construct, defineProperty, getPrototypeOf } = Reflect
const { hasOwn } = Object
const NativeTypeError = TypeError
const slice = Function.prototype.bind.bind(Function.prototype.call)(Array.prototype.slice)

let exported = {}

/** What the main module offers by name. */
export function offer(exports) {
  exported = exports
}

/** All calls of methods come here, over a socket of its own. */
export class Rpc extends WorkerEntrypoint {
  callMethod(call, path, values) {
    return this.#run(call, () => {
      const entrypoint = openEntrypoint(call, this.ctx, this.env)
      if (path.length === 1) return callMember(entrypoint, path[0], values)
      return walk(entrypoint, path).then((target) => callMember(target, path[path.length - 1], values))
    })
  }

  readProperty(call, path) {
    return this.#run(call, () => {
      const entrypoint = openEntrypoint(call, this.ctx, this.env)
      if (path.length === 1) return readMember(entrypoint, path[0])
      return walk(entrypoint, path).then((target) => readMember(target, path[path.length - 1]))
    })
  }

  #run({ depth, requestId }, callback) {
    countRequest(null)
    watch(this.ctx)
    prepareEnv(this.env)
    return depths.run(`${depth}`, () => requests.run(requestId, callback))
  }
}

/** `fetch` of an entrypoint that is not the default one, or has props. */
export function fetchEntrypoint(call, { request, ctx, env }) {
  const { self, more } = openEntrypoint(call, ctx, env)
  if (typeof self.fetch !== 'function') throw new NativeTypeError(`${nameOf(call)} has no fetch handler`)
  return apply(self.fetch, self, [request, ...more])
}

/** `more`: what its methods are given behind what the caller gives. */
function openEntrypoint(call, ctx, env) {
  const { entrypoint = 'default', props } = call
  const found = hasOwn(exported, entrypoint) ? exported[entrypoint] : undefined
  if (typeof found === 'function' && found.prototype instanceof WorkerEntrypoint) {
    if (props !== undefined) defineProperty(ctx, 'props', { value: props, configurable: true })
    return { self: construct(found, [ctx, env]), more: [] }
  }
  if (typeof found === 'object' && found !== null) return { self: found, more: [env, ctx] }
  const why =
    found === undefined
      ? 'its main module exports nothing of that name'
      : 'it does not extend WorkerEntrypoint'
  throw new NativeTypeError(`the Worker has no ${nameOf(call)}: ${why}`)
}

function nameOf({ entrypoint = 'default' }) {
  return `entrypoint "${entrypoint}"`
}

async function walk(entrypoint, path) {
  let target = { self: await readMember(entrypoint, path[0]), more: [] }
  for (const key of slice(path, 1, -1)) target = { self: await readMember(target, key), more: [] }
  return target
}

function callMember(target, key, values) {
  const { self, more } = target
  const value = readMember(target, key)
  if (typeof value !== 'function') throw new NativeTypeError(`"${key}" is not a function.`)
  if (more.length > 0 && values.length !== 1) {
    throw new NativeTypeError(
      `"${key}" is a function of an object and takes one argument by RPC, before env and ctx: for others, write a class that extends WorkerEntrypoint`,
    )
  }
  return apply(value, self, [...values, ...more])
}

/** Of a class what its prototypes have, as private as workerd keeps the rest; of a plain object what it has itself. */
function readMember({ self }, key) {
  if (isReachable(self, key)) return self[key]
  throw new NativeTypeError(`The RPC receiver does not implement the method "${key}".`)
}

function isReachable(self, key) {
  if ((typeof self !== 'object' && typeof self !== 'function') || self === null) return false
  if (self instanceof RpcStub) return true
  const isTarget = self instanceof WorkerEntrypoint || self instanceof RpcTarget
  if (!isTarget) return hasOwn(self, key)
  if (key === 'constructor' || hasOwn(self, key)) return false
  for (let level = getPrototypeOf(self); level !== null; level = getPrototypeOf(level)) {
    if (level === WorkerEntrypoint.prototype || level === RpcTarget.prototype) return false
    if (hasOwn(level, key)) return true
  }
  return false
}
