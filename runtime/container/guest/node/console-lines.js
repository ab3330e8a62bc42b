/**
 * `console` writes lines as AWS does: `<time>\t<request id>\t<LEVEL>\t<text>`, all on stdout. A text of several lines
 * stays one line of the log: its line ends are written as carriage returns.
 */
import process from 'node:process'
import { format } from 'node:util'
import { describeError } from './describe-error.js'

const LEVELS = {
  trace: 'TRACE',
  debug: 'DEBUG',
  log: 'INFO',
  info: 'INFO',
  warn: 'WARN',
  error: 'ERROR',
  fatal: 'FATAL',
}

/** `requestId` says which invocation is running; none is, while a module loads. */
export function writeConsole(requestId) {
  for (const [method, level] of Object.entries(LEVELS)) {
    console[method] = (...values) => writeLine(requestId(), level, format(...values))
  }
}

export function writeError(label, thrown, requestId) {
  const { errorType, errorMessage, trace } = describeError(thrown)
  const own = thrown instanceof Error ? readable(thrown) : {}
  const text = JSON.stringify({ errorType, errorMessage, ...own, stack: trace })
  writeLine(requestId, 'ERROR', `${label} \t${text}`)
}

function writeLine(requestId, level, text) {
  process.stdout.write(
    `${new Date().toISOString()}\t${requestId}\t${level}\t${text.replaceAll('\n', '\r')}\n`,
  )
}

/** What else an error carries (`code`, `errno`), where JSON has a form for it. */
function readable(error) {
  return Object.fromEntries(
    Object.entries(error).filter(([, value]) => ['string', 'number', 'boolean'].includes(typeof value)),
  )
}
