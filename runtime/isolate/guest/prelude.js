/* oxlint-disable typescript/unbound-method -- natives are taken unbound on purpose and applied later */
/**
 * Runs inside workerd before any line of the function: what the function writes and throws becomes log lines that
 * name the request. Everything it needs is taken here, once, so a function that replaces globals changes its own
 * view only.
 *
 * A log line leaves as one message of workerd's structured log: "\x01" kind id ("\x02" | "\x03 ") text. workerd
 * formats the values itself, as it does without us: only the first argument is changed, or one put in front, and a
 * first argument without "%" leaves the others as they were ("\x03 ": the joining blank is not part of the text).
 */
import { requests } from './__isola_requests.js'

const { apply, defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Reflect
const bindCall = Function.prototype.bind.bind(Function.prototype.call)
const cut = bindCall(String.prototype.slice)
const matches = bindCall(RegExp.prototype.test)
const { stringify } = JSON
const { isArray } = Array
const ObjectPrototype = Object.prototype
const toText = String

/** An id that cannot be mistaken for a format or a mark. The router makes only such. */
const ID = /^[\w.:-]{1,128}$/

/** Longest text of one string, in UTF-16 units. The host cuts whole lines at the same length, whatever comes. */
const TEXT_MAX = 16_384

const CONSOLE = 'c'
const EXCEPTION = 'x'
const VALUES = 'v'

/** In front of the id of a request whose function somebody tails. No id has it. */
export const TAILED = '+'

const ownConsole = console
const printError = console.error

for (const level of ['debug', 'log', 'info', 'warn', 'error']) {
  const { value: print, ...attributes } = getOwnPropertyDescriptor(console, level)
  const { [level]: value } = { [level]: (...values) => write(print, CONSOLE, values) }
  defineProperty(console, level, { ...attributes, value })
}

// There is no cache on a node yet. Caching nothing is what the Cache API promises at least, and what Cloudflare does on
// workers.dev; workerd alone would throw.
Object.assign(Cache.prototype, {
  match: async () => undefined,
  put: async (_request, response) => {
    await response.body?.cancel()
  },
  delete: async () => false,
})

addEventListener('unhandledrejection', (event) => logException(event.reason))

/** Logs what nothing caught, with its stack and causes. */
export function logException(thrown) {
  write(printError, EXCEPTION, [thrown])
}

function write(print, kind, values) {
  const stored = requests.getStore()
  const isTailed = stored !== undefined && stored[0] === TAILED
  const id = isTailed ? cut(stored, 1) : stored
  const shownId = id !== undefined && matches(ID, id) ? id : ''
  const mark = `\x01${kind}${shownId}`
  if (isTailed && kind === CONSOLE) writeValues(print, shownId, values)
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index]
    // One unit over the bound tells the host that something was cut. Other values are bounded by the formatter.
    if (typeof value === 'string' && value.length > TEXT_MAX) values[index] = cut(value, 0, TEXT_MAX + 1)
  }
  if (typeof values[0] === 'string') values[0] = `${mark}\x02${values[0]}`
  else values = [`${mark}\x03`, ...values]
  apply(print, ownConsole, values)
}

/**
 * In front of the line itself, for who tails the function: one string, so that no formatter touches it. Nothing where it
 * would say no more than the line does, or is too long.
 */
function writeValues(print, id, values) {
  if (values.length === 1 && typeof values[0] === 'string') return
  try {
    let json = ''
    for (let index = 0; index < values.length; index += 1) {
      json += `${index === 0 ? '' : ','}${jsonOf(values[index])}`
      if (json.length > TEXT_MAX) return
    }
    apply(print, ownConsole, [`\x01${VALUES}${id}\x02[${json}]`])
  } catch {
    // Whatever a getter or a Proxy of the function throws: the line itself says what it can.
  }
}

/** Plain data as it is, anything else as text; an error with its stack. */
function jsonOf(value) {
  if (value === null || value === undefined) return 'null'
  if (typeof value === 'number' || typeof value === 'string' || typeof value === 'boolean')
    return stringify(value)
  if (typeof value === 'object' && isPlain(value)) {
    try {
      return stringify(value) ?? 'null'
    } catch {
      return stringify(toText(value))
    }
  }
  return stringify(value instanceof Error ? toText(value.stack) : toText(value))
}

function isPlain(value) {
  if (isArray(value)) return true
  const prototype = getPrototypeOf(value)
  return prototype === null || prototype === ObjectPrototype
}
