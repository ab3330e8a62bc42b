/**
 * What an instance writes, as log lines. Everything a function writes arrives on stdout as one JSON object a line,
 * made by workerd; start-up errors and V8's last words ("out of memory") come on stderr and are kept as last errors.
 * A function that replaces `JSON.stringify` can put any line on stdout: it lies about itself, in its own log. Lines
 * of requests and of the instance's life are never made here.
 */
import { OUTPUT_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import { LOG_MARKS } from './log-marks.ts'

export { describeStartFailure } from './start-failure.ts'

export interface OutputParserOptions {
  readonly functionName: string
  readonly versionId: string
  readonly instanceId: string
  /** `createStackMapper` makes one. */
  readonly mapStack: (stack: string) => string
  readonly onLine: (line: LogLine) => void
}

export interface OutputParser {
  /** Bytes as they come; a line may be split anywhere. */
  push(chunk: Uint8Array, stream: 'stdout' | 'stderr'): void
  /** The last lines that came from workerd itself, oldest first, cleaned of its JSON. */
  lastErrors(): string
}

export function createOutputParser(options: OutputParserOptions): OutputParser {
  const errors: string[] = []
  /** Of the line that comes next. */
  let values: { readonly requestId: string; readonly list: readonly unknown[] | undefined } | undefined
  const receive = (stream: 'stdout' | 'stderr', bytes: Buffer, complete: boolean): void => {
    const text = bytes.toString('utf8').trimEnd()
    if (text === '') return
    const record = (complete ? parseRecord(text) : salvageRecord(text)) ?? plainRecord(text)
    if (record.raw && stream === 'stderr') return keepError(errors, text)
    // Only workerd's own messages name a place in its sources.
    if (record.source !== undefined) {
      if (record.level !== 'error') return
      const thrown = UNCAUGHT.exec(record.message)
      if (thrown === null) return keepError(errors, options.mapStack(record.message))
      return options.onLine(exceptionLine(options, record, '', `${thrown[1]}: ${thrown[2]}`))
    }
    const { kind, requestId, text: json } = unmarked(record.message)
    if (kind === LOG_MARKS.values) {
      values = { requestId, list: parseValues(json, (value) => cleanStack(options, value)) }
      return
    }
    const line = functionLine(options, record)
    const list = values?.requestId === requestId && kind === LOG_MARKS.console ? values.list : undefined
    values = undefined
    options.onLine(list === undefined ? line : { ...line, values: list })
  }
  const streams = {
    stdout: splitLines((line, complete) => receive('stdout', line, complete)),
    stderr: splitLines((line, complete) => receive('stderr', line, complete)),
  }
  return {
    push: (chunk, stream) => streams[stream](chunk),
    lastErrors: () => errors.join('\n'),
  }
}

/** An exception that the guest cannot catch: thrown by a stream while it was sent. */
const UNCAUGHT = /^Uncaught exception: .*?remote\.jsg\.([\w.()]+): ([\s\S]*)$/

/** Calls back once a line, with at most `lineBytesMax` of it; the rest of a longer one is skipped. */
function splitLines(receive: (line: Buffer, complete: boolean) => void): (chunk: Uint8Array) => void {
  const { lineBytesMax } = OUTPUT_LIMITS
  let parts: Buffer[] = []
  let partsBytes = 0
  let skipping = false
  const add = (piece: Buffer): void => {
    if (skipping) return
    const room = lineBytesMax - partsBytes
    parts.push(Buffer.from(piece.subarray(0, room)))
    partsBytes += Math.min(room, piece.length)
    if (piece.length <= room) return
    receive(Buffer.concat(parts), false)
    skipping = true
    parts = []
  }
  return (chunk) => {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    let start = 0
    for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
      add(bytes.subarray(start, end))
      start = end + 1
      if (!skipping) receive(Buffer.concat(parts), true)
      parts = []
      partsBytes = 0
      skipping = false
    }
    if (start < bytes.length) add(bytes.subarray(start))
  }
}

interface OutputRecord {
  readonly timestamp: number
  readonly level: LogLine['level']
  readonly message: string
  readonly source: string | undefined
  /** It was not JSON. */
  readonly raw?: true
}

const LEVELS: ReadonlySet<unknown> = new Set<LogLine['level']>(['debug', 'log', 'info', 'warn', 'error'])

function parseRecord(text: string): OutputRecord | undefined {
  if (!text.startsWith('{')) return undefined
  let value: Record<string, unknown>
  try {
    value = JSON.parse(text) as Record<string, unknown>
  } catch {
    return undefined
  }
  if (typeof value.message !== 'string') return undefined
  const level =
    value.level === 'fatal' ? 'error' : LEVELS.has(value.level) ? (value.level as LogLine['level']) : 'log'
  const source = typeof value.source === 'string' ? value.source : undefined
  return { timestamp: Number(value.timestamp), level, message: value.message, source }
}

/** What workerd's formatter says where a function broke it. */
function plainRecord(text: string): OutputRecord {
  return { timestamp: Date.now(), level: 'log', message: text, source: undefined, raw: true }
}

/** The beginning of a line that is too long: its message as far as it goes, without an escape cut in two. */
function salvageRecord(text: string): OutputRecord | undefined {
  const head = /^\{"timestamp":"?\d+"?,"level":"\w+",("source":"[^"]*",)?"message":"/.exec(text)?.[0]
  if (head === undefined) return undefined
  const body = text
    .slice(head.length)
    .replace(/\\(u[\da-f]{0,3})?$/i, (tail, _, offset: number, whole: string) =>
      endsInsideEscape(whole, offset) ? '' : tail,
    )
  return parseRecord(`${head}${body}"}`)
}

/** Whether the backslash at `offset` begins an escape: an even number of backslashes stands before it. */
function endsInsideEscape(text: string, offset: number): boolean {
  let before = 0
  while (text[offset - 1 - before] === '\\') before += 1
  return before % 2 === 0
}

function functionLine(options: OutputParserOptions, record: OutputRecord): LogLine {
  const { kind, requestId, text: marked, end } = unmarked(record.message)
  let text = marked
  if (end === LOG_MARKS.endJoined && text.startsWith(' ')) text = text.slice(1)
  if (kind === LOG_MARKS.exception) return exceptionLine(options, record, requestId, text)
  // workerd writes `process.stdout` by way of the console, with a blank behind the mark.
  const isError = text.startsWith(LOG_MARKS.stderr)
  if (!isError && !text.startsWith(LOG_MARKS.stdout)) return consoleLine(options, record, requestId, text)
  return consoleLine(options, isError ? { ...record, level: 'error' } : record, requestId, text.slice(2))
}

function unmarked(message: string): {
  readonly kind: string | undefined
  readonly requestId: string
  readonly end: string | undefined
  readonly text: string
} {
  const [head = '', kind, requestId = '', end] = MARKED.exec(message) ?? []
  return { kind, requestId, end, text: message.slice(head.length) }
}

/** `undefined` for what the guest did not write so. */
function parseValues(json: string, clean: (stack: string) => string): readonly unknown[] | undefined {
  try {
    const list = JSON.parse(json) as unknown
    if (!Array.isArray(list)) return undefined
    return list.map((value) =>
      typeof value === 'string' && value.includes('\n') ? clean(value) : (value as unknown),
    )
  } catch {
    return undefined
  }
}

const MARKED = new RegExp(
  `^${LOG_MARKS.start}([${LOG_MARKS.console}${LOG_MARKS.exception}${LOG_MARKS.values}])([\\w.:-]{0,128})([${LOG_MARKS.end}${LOG_MARKS.endJoined}])`,
)

function consoleLine(
  options: OutputParserOptions,
  record: OutputRecord,
  requestId: string,
  text: string,
): LogLine {
  // A logged Error brings its stack along.
  const message = text.includes('\n') ? cleanStack(options, text) : text
  return {
    ...lineOf(options, record, requestId),
    source: 'console',
    level: record.level,
    message: cut(message),
  }
}

function exceptionLine(
  options: OutputParserOptions,
  record: OutputRecord,
  requestId: string,
  text: string,
): LogLine {
  const at = text.search(/\n +at /)
  const message = cut(at === -1 ? text : text.slice(0, at))
  const line = {
    ...lineOf(options, record, requestId),
    source: 'exception',
    level: 'error',
    message,
  } as const
  return at === -1 ? line : { ...line, stack: cut(cleanStack(options, text)) }
}

/** Positions in the sources, and no frames of the guest. */
function cleanStack(options: OutputParserOptions, stack: string): string {
  // Bounded, so that no line costs the square of its length.
  return options.mapStack(stack.replace(/\n +at [^\n]*__isola_\w{1,64}\.js:\d{1,9}:\d{1,9}\)?/g, ''))
}

function lineOf(
  { functionName, versionId, instanceId }: OutputParserOptions,
  record: OutputRecord,
  requestId: string,
): Pick<LogLine, 'time' | 'functionName' | 'versionId' | 'instanceId' | 'requestId'> {
  const said = new Date(record.timestamp)
  // What a function wrote itself may be beyond any calendar.
  const time = (Number.isNaN(said.getTime()) ? new Date() : said).toISOString()
  const line = { time, functionName, versionId, instanceId }
  return requestId === '' ? line : { ...line, requestId }
}

function cut(text: string): string {
  const { textLengthMax } = OUTPUT_LIMITS
  return text.length <= textLengthMax ? text : `${text.slice(0, textLengthMax)}… (cut)`
}

function keepError(errors: string[], text: string): void {
  errors.push(text.slice(0, OUTPUT_LIMITS.lastErrorsLengthMax))
  let length = errors.reduce((sum, error) => sum + error.length, 0)
  while (errors.length > OUTPUT_LIMITS.lastErrorsLinesMax || length > OUTPUT_LIMITS.lastErrorsLengthMax) {
    length -= errors.shift()?.length ?? 0
  }
}
