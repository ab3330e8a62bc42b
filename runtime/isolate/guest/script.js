/**
 * The service-worker format: a script that registers listeners, with its bindings as global variables. To workerd it is a
 * module like any other, so that it runs inside the same handlers as they do; here the one is made to look like the other.
 *
 * As in workerd's own: the first listener that calls `respondWith` answers; where none does, or where one throws after
 * `passThroughOnException`, the request goes on to its origin.
 */
import { env } from 'cloudflare:workers'

const { defineProperty, ownKeys } = Reflect
const NativeTypeError = TypeError
const resolve = Promise.resolve.bind(Promise)
const bindCall = Function.prototype.bind.bind(Function.prototype.call)
const indexOf = bindCall(Array.prototype.indexOf)
const slice = bindCall(Array.prototype.slice)
const splice = bindCall(Array.prototype.splice)
const fetchOrigin = fetch
const addOther = addEventListener
const removeOther = removeEventListener

class ExtendableEvent extends Event {
  #ctx

  constructor(type, ctx) {
    super(type)
    this.#ctx = ctx
  }

  waitUntil(promise) {
    this.#ctx.waitUntil(promise)
  }
}

/** Of an event, for whoever dispatches it and nobody else. */
let responseOf
let closeResponse

class FetchEvent extends ExtendableEvent {
  #ctx
  #response
  #isOpen = true
  #request

  static {
    responseOf = (event) => event.#response
    closeResponse = (event) => {
      event.#isOpen = false
    }
  }

  constructor(request, ctx) {
    super('fetch', ctx)
    this.#request = request
    this.#ctx = ctx
  }

  get request() {
    return this.#request
  }

  respondWith(response) {
    if (this.#response !== undefined) {
      throw new DOMException('FetchEvent.respondWith() has already been called.', 'InvalidStateError')
    }
    if (!this.#isOpen) {
      throw new DOMException(
        'FetchEvent.respondWith() must be called while the listener runs, and not later.',
        'InvalidStateError',
      )
    }
    // Held as it is: what it is a promise of is looked at by who asked.
    this.#response = { promise: resolve(response) }
    this.stopImmediatePropagation()
  }

  passThroughOnException() {
    this.#ctx.passThroughOnException()
  }
}

class ScheduledEvent extends ExtendableEvent {
  #controller

  constructor(controller, ctx) {
    super('scheduled', ctx)
    this.#controller = controller
  }

  get scheduledTime() {
    return this.#controller.scheduledTime
  }

  get cron() {
    return this.#controller.cron
  }

  noRetry() {
    this.#controller.noRetry()
  }
}

const listeners = { __proto__: null, fetch: [], scheduled: [] }

function listen(type, listener, options) {
  const own = listeners[type]
  if (own === undefined) return addOther(type, listener, options)
  if (typeof listener !== 'function' && typeof listener?.handleEvent !== 'function') {
    throw new NativeTypeError(`addEventListener("${type}", …) needs a function`)
  }
  if (indexOf(own, listener) === -1) own[own.length] = listener
  return undefined
}

function unlisten(type, listener, options) {
  const own = listeners[type]
  if (own === undefined) return removeOther(type, listener, options)
  const index = indexOf(own, listener)
  if (index !== -1) splice(own, index, 1)
  return undefined
}

/** Bindings as global variables, before the script's first line. `modules`: those that are modules of its own. */
export function defineGlobals(modules) {
  for (const source of [env ?? {}, modules]) {
    for (const name of ownKeys(source)) {
      const value = source[name]
      defineProperty(globalThis, name, { value, writable: true, enumerable: true, configurable: true })
    }
  }
  const own = {
    addEventListener: listen,
    removeEventListener: unlisten,
    ExtendableEvent,
    FetchEvent,
    ScheduledEvent,
  }
  for (const [name, value] of Object.entries(own)) {
    defineProperty(globalThis, name, { value, writable: true, configurable: true })
  }
}

/** What the script has registered, as the default export of a module. */
export function scriptHandlers() {
  const handlers = {}
  if (listeners.fetch.length > 0) handlers.fetch = answer
  if (listeners.scheduled.length > 0) handlers.scheduled = run
  return handlers
}

/** Synchronous up to the listeners' own end: what they throw is thrown. */
function answer(request, _env, ctx) {
  const event = new FetchEvent(request, ctx)
  try {
    for (const listener of slice(listeners.fetch)) {
      call(listener, event)
      if (responseOf(event) !== undefined) break
    }
  } finally {
    closeResponse(event)
  }
  const response = responseOf(event)
  if (response !== undefined) return response.promise
  return fetchOrigin(request)
}

async function run(controller, _env, ctx) {
  const event = new ScheduledEvent(controller, ctx)
  for (const listener of slice(listeners.scheduled)) call(listener, event)
}

function call(listener, event) {
  if (typeof listener === 'function') listener.call(globalThis, event)
  else listener.handleEvent(event)
}
