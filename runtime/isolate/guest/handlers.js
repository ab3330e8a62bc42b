/* oxlint-disable typescript/unbound-method -- natives are taken unbound on purpose and applied later */
/**
 * The function's default export, as workerd will call it. It behaves as it does without us, but: each request runs
 * under its id, what it throws is logged and answered as "function_threw", and its `waitUntil` work is counted.
 *
 * workerd reads an object's handlers once, at load, and calls them on that object; of a class it makes an instance
 * per request. Both are kept: an object's functions run on the very object (private fields, `this.x = …`, frozen
 * objects), and a class is constructed as itself (`this.constructor`, `super`, RPC methods).
 */
import { WorkerEntrypoint } from 'cloudflare:workers'
import { prepareEnv } from './__isola_calls.js'
import { passesThrough, watch, work } from './__isola_context.js'
import { fetchEntrypoint } from './__isola_entrypoints.js'
import { collect, collectEvery, countRequest } from './__isola_memory.js'
import { logException, TAILED } from './__isola_prelude.js'
import { depths, requests } from './__isola_requests.js'

const { apply, construct, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys } = Reflect
const NativeRequest = Request
const NativeResponse = Response
const nativeJson = Response.json
const resolve = Promise.resolve.bind(Promise)
const bindCall = Function.prototype.bind.bind(Function.prototype.call)
const then = bindCall(Promise.prototype.then)
const requestJson = bindCall(Request.prototype.json)
const endsWith = bindCall(String.prototype.endsWith)
const getHeader = bindCall(Headers.prototype.get)
const deleteHeader = bindCall(Headers.prototype.delete)
const parse = JSON.parse

/** Those that workerd may call by itself; any other function of the object is reachable by RPC only. */
const HANDLERS = [
  'fetch',
  'scheduled',
  'queue',
  'email',
  'tail',
  'tailStream',
  'trace',
  'test',
  'connect',
  'alarm',
]

/** What the host asks over the control socket. */
const state = { handlers: [] }

/** `GET /` answers the state; `GET /collect` collects garbage before. */
export const control = {
  fetch(request) {
    if (endsWith(request.url, '/collect')) collect()
    return apply(nativeJson, NativeResponse, [{ ...state, pending: work.pending }])
  },
}

/** Throws for what can never answer, so that the version is refused instead of failing each request. */
export function wrap(exported, { moduleName, collection, isScript }) {
  if (collection !== undefined) collectEvery(collection)
  if (exported === undefined) throw new TypeError(`${moduleName} has no default export: ${EXAMPLE}`)
  const isClass = typeof exported === 'function' && exported.prototype instanceof WorkerEntrypoint
  if (!isClass && (typeof exported !== 'object' || exported === null)) {
    const found =
      typeof exported === 'function'
        ? 'a function or a class of another kind'
        : exported === null
          ? 'null'
          : `of type ${typeof exported}`
    throw new TypeError(
      `the default export of ${moduleName} is ${found}: ${EXAMPLE}, or a class that extends WorkerEntrypoint`,
    )
  }
  const handlers = isClass ? exported.prototype : exported
  state.handlers = HANDLERS.filter((name) => typeof handlers[name] === 'function')
  // One key is the constructor.
  const hasMethods = isClass && ownKeys(handlers).length > 1
  if (state.handlers.length === 0 && hasMethods) state.handlers.push('rpc')
  if (state.handlers.length === 0 && isScript)
    throw new TypeError(`${moduleName} listens for no request: ${SCRIPT_EXAMPLE}`)
  if (state.handlers.length === 0)
    throw new TypeError(`the default export of ${moduleName} has no handler: ${EXAMPLE}`)
  return isClass ? wrapClass(exported) : wrapObject(exported)
}

const SCRIPT_EXAMPLE = `write "addEventListener('fetch', (event) => { event.respondWith(…) })" at its top level`
const EXAMPLE = 'write "export default { fetch(request, env, ctx) { … } }"'

function wrapObject(exported) {
  const wrapped = {}
  for (let level = exported; level !== null && level !== Object.prototype; level = getPrototypeOf(level)) {
    for (const key of ownKeys(level)) {
      if (key === 'constructor' || getOwnPropertyDescriptor(wrapped, key) !== undefined) continue
      // Getters stay lazy: workerd would not have called those it does not know.
      const get = () => {
        const value = exported[key]
        return typeof value === 'function' ? (...values) => apply(value, exported, values) : value
      }
      if (HANDLERS.includes(key)) {
        const value = exported[key]
        const isHandler = typeof value === 'function'
        defineProperty(wrapped, key, {
          value: isHandler ? guard(key, value, exported) : value,
          enumerable: true,
        })
      } else defineProperty(wrapped, key, { get, enumerable: true })
    }
  }
  if (typeof exported.tail === 'function' && typeof exported.fetch !== 'function')
    defineProperty(wrapped, 'fetch', { value: guard('fetch', fetchOfNone, exported), enumerable: true })
  return wrapped
}

function wrapClass(Exported) {
  const { [Exported.name]: Wrapped } = {
    [Exported.name]: class extends Exported {
      // oxlint-disable-next-line constructor-super -- the instance is made as the function's own class
      constructor(ctx, env) {
        watch(ctx)
        // Where flags forbid to import it, this is the first that the function sees of it.
        prepareEnv(env)
        const instance = construct(Exported, [ctx, env])
        // Without one of its own, too: what comes for its tail handler or another entrypoint comes by way of fetch.
        const value = guard('fetch', instance.fetch ?? fetchOfNone, instance, { ctx, env })
        defineProperty(instance, 'fetch', { value, configurable: true, writable: true })
        return instance
      }
    },
  }
  return Wrapped
}

/** The handler, watched. `own`: context and bindings of a class, whose handlers are not given them. */
function guard(name, handler, self, own) {
  if (name !== 'fetch') {
    return (...values) => {
      watch(values[2])
      if (own === undefined) prepareEnv(values[1])
      return apply(handler, self, values)
    }
  }
  return (...values) => {
    const ctx = own === undefined ? values[2] : own.ctx
    countRequest(getHeader(values[0].headers, 'content-length'))
    watch(ctx)
    const { headers } = values[0]
    const tail = getHeader(headers, 'isola-tail')
    const env = own === undefined ? values[1] : own.env
    prepareEnv(env)
    let run = handler
    let given = values
    // Of a consumer that is tailed itself it says both: "events, lines".
    if (tail !== null && tail[0] === 'e') {
      run = deliver
      given = [values[0], self, own === undefined ? [env, ctx] : []]
    } else if (
      getHeader(headers, 'isola-entrypoint') !== null ||
      getHeader(headers, 'isola-props') !== null
    ) {
      run = answerElsewhere
      given = [values[0], ctx, env]
    }
    const requestId = getHeader(headers, 'x-request-id') ?? undefined
    const id = tail === null || requestId === undefined ? requestId : TAILED + requestId
    const depth = getHeader(headers, 'isola-depth')
    if (depth === null) return requests.run(id, answer, run, self, given, ctx)
    return depths.run(depth, () => requests.run(id, answer, run, self, given, ctx))
  }
}

/** For another entrypoint, or with props; no client can send what leads here. */
function answerElsewhere(asked, ctx, env) {
  const entrypoint = getHeader(asked.headers, 'isola-entrypoint') ?? undefined
  const props = getHeader(asked.headers, 'isola-props')
  const request = new NativeRequest(asked)
  deleteHeader(request.headers, 'isola-entrypoint')
  deleteHeader(request.headers, 'isola-props')
  const call = { entrypoint, props: props === null ? undefined : parse(props) }
  return fetchEntrypoint(call, { request, ctx, env })
}

/** Trace events of other functions, for the function's own `tail` handler. No client can send what leads here. */
async function deliver(request, self, rest) {
  const { tail } = self
  if (typeof tail !== 'function') throw new TypeError(`the function has no tail handler: ${TAIL_EXAMPLE}`)
  const events = await requestJson(request)
  for (const { event } of events) {
    // What was sent was redacted before; there is no other.
    if (event?.request) event.request.getUnredacted = () => event.request
  }
  await apply(tail, self, [events, ...rest])
  return new NativeResponse(null, { status: 204 })
}

const TAIL_EXAMPLE = 'write "export default { tail(events, env, ctx) { … } }"'

/** Of a function that only has other handlers: trace events come to it by way of fetch. */
function fetchOfNone() {
  throw new TypeError(`the function has no fetch handler: ${EXAMPLE}`)
}

function answer(handler, self, values, ctx) {
  try {
    const result = apply(handler, self, values)
    if (result instanceof NativeResponse) return result
    return then(resolve(result), checkResponse, (thrown) => threw(thrown, ctx))
  } catch (thrown) {
    return threw(thrown, ctx)
  }
}

function checkResponse(result) {
  if (result instanceof NativeResponse) return result
  const found = result === null || result === undefined ? `${result}` : `of type ${typeof result}`
  return threw(new TypeError(`fetch() must answer with a Response, but its result is ${found}`))
}

function threw(thrown, ctx) {
  logException(thrown)
  // Its origin is to answer in this case: workerd does that only where it sees the exception.
  if (passesThrough(ctx)) throw thrown
  return new NativeResponse('the function threw an exception\n', {
    status: 500,
    headers: { 'isola-error': 'function_threw' },
  })
}
