import { CONTROL_LIMITS } from '../../model/limits.ts'
import type { LogLine } from '../../model/log-line.ts'
import { type Command, NODE_FLAGS } from '../command.ts'
import { connectToNode } from '../find-node.ts'
import { usageError } from '../parse-arguments.ts'
import { shortId } from '../shares.ts'

const LINES_DEFAULT = 100

export const logsCommand: Command = {
  name: 'logs',
  summary: 'show what a function wrote, its requests and its errors',
  usage: 'FN',
  words: [1, 1],
  flags: {
    follow: { type: 'boolean', short: 'f', help: 'go on with new lines until Ctrl-C' },
    lines: {
      type: 'text',
      short: 'n',
      value: 'N',
      help: `begin with the last N lines (default ${LINES_DEFAULT})`,
    },
    ...NODE_FLAGS,
  },
  notes: 'With --json each line is one JSON document.',
  examples: ['isola logs hello', 'isola logs hello -f', 'isola logs hello --lines 1000 --json | jq .message'],
  endsOnStop: true,
  async run(context) {
    const [name = ''] = context.words
    const lines = context.flags.integer('lines') ?? LINES_DEFAULT
    if (lines > CONTROL_LIMITS.logLinesPerReadMax) {
      throw usageError(`--lines is ${lines}: at most ${CONTROL_LIMITS.logLinesPerReadMax} are kept`)
    }
    const client = await connectToNode(context)
    const signal = AbortSignal.any([context.stop, context.readerGone])
    try {
      for await (const line of client.logs(name, { lines, follow: context.flags.has('follow'), signal })) {
        context.output.document(line)
        context.output.line(formatLogLine(line))
      }
    } catch (error) {
      // Ctrl-C is how following ends.
      if (!signal.aborted) throw error
    }
    return undefined
  },
}

/** `12:00:01.123 1a2b3c4d error  message`, a stack indented below. */
export function formatLogLine(line: LogLine): string {
  const head = `${line.time.slice(11, 23)} ${shortId(line.versionId)} ${line.level.padEnd(5)}`
  const { request } = line
  const text =
    request === undefined
      ? line.message
      : `${request.method} ${request.host}${request.path} ${request.status} ${Math.round(request.totalMs)} ms${requestNotes(line)}`
  return printable(`${head} ${text}${indentedStack(line)}`)
}

/** What a client sends can end up in a log, and must not steer the terminal that shows it. `--json` has it as it was. */
function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '\ufffd')
}

/** Without the message where the stack begins with it, as most do: its frames are indented already. */
function indentedStack({ message, stack }: LogLine): string {
  if (stack === undefined || stack === message) return ''
  if (stack.startsWith(`${message}\n`)) return stack.slice(message.length)
  return `\n${stack.replace(/^/gm, '    ')}`
}

function requestNotes(line: LogLine): string {
  const notes = [
    line.request?.cold === true ? 'cold' : undefined,
    line.request?.clientAborted === true ? 'client went away' : undefined,
    line.request?.error,
    line.requestId,
  ].filter((note) => note !== undefined)
  return notes.length === 0 ? '' : ` (${notes.join(', ')})`
}
