/**
 * A line that a container wrote, as a log line. Where it has the form of AWS's runtimes, its parts are what they say:
 * nodejs `<time>\t<request id>\t<level>\t<text>`, python `[<level>]\t<time>\t<request id>\t<text>`; there a carriage
 * return stands for a line break of the text. Any other line is text.
 */
import { OUTPUT_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'

export interface WrittenLine {
  readonly stream: 'stdout' | 'stderr'
  readonly text: string
  readonly atMs: number
}

export type LineOwner = Pick<LogLine, 'functionName' | 'versionId' | 'instanceId'>

const TIME = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?Z`
// Bounded, as all that a function writes: no line may cost more than its length.
const NODE_FORM = new RegExp(String.raw`^(${TIME})\t([\w.:-]{1,128})\t([A-Z]{3,8})\t`)
const PYTHON_FORM = new RegExp(String.raw`^\[([A-Z]{3,8})\]\t(${TIME})\t([\w.:-]{0,128})\t`)

const LEVELS: Readonly<Record<string, LogLine['level']>> = {
  TRACE: 'debug',
  DEBUG: 'debug',
  LOG: 'log',
  INFO: 'info',
  WARN: 'warn',
  WARNING: 'warn',
  ERROR: 'error',
  FATAL: 'error',
  CRITICAL: 'error',
}

export function outputLine({ stream, text, atMs }: WrittenLine, owner: LineOwner): LogLine {
  const plain = {
    ...owner,
    time: new Date(atMs).toISOString(),
    source: 'console',
    level: stream === 'stderr' ? 'error' : 'log',
  } as const
  const form = readForm(text)
  if (form === undefined) return { ...plain, message: cut(text) }
  const { time, requestId, level, message } = form
  return {
    ...plain,
    time: time ?? plain.time,
    level,
    // What is written outside of an invocation has none.
    ...(requestId !== '' && requestId !== 'undefined' && { requestId }),
    message: cut(message),
  }
}

interface Form {
  readonly time: string | undefined
  readonly requestId: string
  readonly level: LogLine['level']
  readonly message: string
}

function readForm(text: string): Form | undefined {
  const node = NODE_FORM.exec(text)
  const python = node === null ? PYTHON_FORM.exec(text) : null
  const [head, time, requestId, word] =
    node ?? (python === null ? [] : [python[0], python[2], python[3], python[1]])
  const level = word === undefined ? undefined : LEVELS[word]
  if (head === undefined || level === undefined) return undefined
  const said = new Date(time!.replace(',', '.'))
  return {
    time: Number.isNaN(said.getTime()) ? undefined : said.toISOString(),
    requestId: requestId!,
    level,
    message: text.slice(head.length).replaceAll('\r', '\n').trimEnd(),
  }
}

function cut(text: string): string {
  const { textLengthMax } = OUTPUT_LIMITS
  return text.length <= textLengthMax ? text : `${text.slice(0, textLengthMax)}… (cut)`
}
