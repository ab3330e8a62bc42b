import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { ControlClient } from '../../client/client.ts'
import type { InvokeResult } from '../../client/invoke.ts'
import { CONTAINER_LIMITS } from '../../model/limits.ts'
import { type Command, type CommandContext, NODE_FLAGS } from '../command.ts'
import { connectToNode } from '../find-node.ts'
import { usageError } from '../parse-arguments.ts'
import { readInput } from '../read-input.ts'
import { formatLogLine } from './logs.ts'

/** After the answer: the last lines of an invocation come a moment later. */
const LOG_WAIT_MS = 2_000

export const invokeCommand: Command = {
  name: 'invoke',
  summary: 'call a container function with an event and print its result',
  usage: 'FN',
  words: [1, 1],
  flags: {
    payload: {
      type: 'text',
      short: 'p',
      value: 'JSON|@FILE|-',
      help: 'the event: JSON, a file, or stdin (default {})',
    },
    async: {
      type: 'boolean',
      help: 'only have it accepted: it is worked on later, and tried again if it fails',
    },
    log: { type: 'boolean', help: 'show on stderr what the function writes meanwhile' },
    ...NODE_FLAGS,
  },
  notes: 'For functions of protocol "lambda". A function that fails is exit code 1, its error on stdout.',
  examples: [
    'isola invoke resize --payload \'{"width": 200}\'',
    'isola invoke report --payload @event.json --async',
    'echo \'{"n": 1}\' | isola invoke count --payload - --log',
  ],
  async run(context) {
    const [name = ''] = context.words
    const { flags } = context
    const isAsync = flags.has('async')
    if (isAsync && flags.has('log')) {
      throw usageError(
        '--log shows what a function writes until it has answered, and --async does not wait: leave one out',
      )
    }
    const payload = await readPayload(context)
    const client = await connectToNode(context)
    const invoke = (): Promise<InvokeResult> =>
      client.invoke(name, { payload, ...(isAsync && { type: 'async' as const }) })
    const result = await (flags.has('log') ? withLog(context, client, name, invoke) : invoke())
    const text = Buffer.from(result.body).toString('utf8')
    const { functionError, requestId } = result
    if (functionError !== undefined) context.output.progress(`error: the function failed (${functionError})`)
    return {
      document: {
        functionName: name,
        ...(requestId !== undefined && { requestId }),
        ...(functionError !== undefined && { functionError }),
        ...(isAsync ? { accepted: true } : { result: jsonOrText(text) }),
      },
      text: isAsync
        ? `${name}: accepted${requestId === undefined ? '' : ` as ${requestId}`}`
        : text.replace(/\n$/, ''),
      exitCode: functionError === undefined ? 0 : 1,
    }
  },
}

async function readPayload(context: CommandContext): Promise<Uint8Array> {
  const given = context.flags.text('payload') ?? '{}'
  const bytesMax = CONTAINER_LIMITS.payloadBytesMax
  let bytes: Uint8Array
  if (given === '-') bytes = await readInput(context, bytesMax)
  else if (given.startsWith('@')) {
    const path = resolve(context.workingDirectory, given.slice(1))
    try {
      bytes = await readFile(path)
    } catch (error) {
      throw usageError(
        `--payload is ${JSON.stringify(given)}, and ${path} cannot be read: ${(error as Error).message}`,
      )
    }
  } else bytes = new TextEncoder().encode(given)
  if (bytes.byteLength > bytesMax) {
    throw usageError(
      `the payload has ${bytes.byteLength} bytes, and ${bytesMax} is the most: keep it elsewhere and send where`,
    )
  }
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw usageError(
      `the payload is not JSON (${(error as Error).message}): give e.g. '{"name": "value"}', @FILE, or - for stdin`,
    )
  }
  return bytes
}

/** Ends with the router's own line of that request, which is the last. */
async function withLog(
  context: CommandContext,
  client: ControlClient,
  name: string,
  invoke: () => Promise<InvokeResult>,
): Promise<InvokeResult> {
  const done = new AbortController()
  const requestIds = new Set<string>()
  let awaited: string | undefined
  const signal = AbortSignal.any([done.signal, context.stop])
  const follow = async (): Promise<void> => {
    for await (const line of client.logs(name, { lines: 0, follow: true, signal })) {
      context.output.progress(formatLogLine(line))
      if (line.source !== 'request' || line.requestId === undefined) continue
      requestIds.add(line.requestId)
      if (line.requestId === awaited) done.abort()
    }
  }
  const following = follow()
  // Looked at below; until then it is no unhandled one.
  following.catch(() => undefined)
  try {
    const result = await invoke()
    awaited = result.requestId
    if (awaited !== undefined && requestIds.has(awaited)) done.abort()
    const timer = setTimeout(() => done.abort(), LOG_WAIT_MS)
    await following
    clearTimeout(timer)
    return result
  } finally {
    done.abort()
    await following.catch(() => undefined)
  }
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Nothing came back, or what the function wrote by itself.
    return text
  }
}
