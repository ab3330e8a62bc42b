import type { ControlClient } from '../../client/client.ts'
import type { DeadLetterSummary } from '../../model/dead-letter.ts'
import { ASYNC_LIMITS } from '../../model/limits.ts'
import { type Command, type CommandContext, type CommandResult, NODE_FLAGS } from '../command.ts'
import { formatAge } from '../duration.ts'
import { connectToNode } from '../find-node.ts'
import { formatTable } from '../output.ts'
import { usageError } from '../parse-arguments.ts'

const REASON_CHARS_SHOWN = 80

export const deadLettersCommand: Command = {
  name: 'dead-letters',
  summary: 'list, show, redrive or discard events that a function failed to work on',
  usage: 'FN | show ID | redrive ID | redrive --all FN | discard ID',
  words: [1, 2],
  flags: {
    all: { type: 'boolean', help: 'redrive every dead letter of the function' },
    lines: {
      type: 'text',
      short: 'n',
      value: 'N',
      help: `list the newest N (default ${ASYNC_LIMITS.deadLettersPerReadDefault})`,
    },
    ...NODE_FLAGS,
  },
  notes: [
    `An event becomes a dead letter when all its tries failed, or when it grew too old. The newest ${ASYNC_LIMITS.deadLettersPerFunctionMax} of a`,
    `function are kept for ${ASYNC_LIMITS.deadLettersKeptDays} days. Redriven, it is tried from the start, under the same request id.`,
  ].join('\n'),
  examples: [
    'isola dead-letters report',
    'isola dead-letters show 0d6f0c0e-8f0a-4a39-9a43-6f5f3f1e2c11',
    'isola dead-letters redrive --all report',
  ],
  async run(context) {
    const [first = '', second] = context.words
    const isAll = context.flags.has('all')
    if (isAll && (first !== 'redrive' || second === undefined)) {
      throw usageError('--all goes with redrive and a function: isola dead-letters redrive --all FN')
    }
    const lines = context.flags.integer('lines')
    if (
      lines !== undefined &&
      (second !== undefined || lines < 1 || lines > ASYNC_LIMITS.deadLettersPerReadMax)
    ) {
      throw usageError(
        `--lines goes with a function alone, and is 1 to ${ASYNC_LIMITS.deadLettersPerReadMax}`,
      )
    }
    if (second === undefined) return await list(context, first, lines)
    if (first === 'show') return await show(context, second)
    if (first === 'redrive') return await (isAll ? redriveAll(context, second) : redrive(context, second))
    if (first === 'discard') return await discard(context, second)
    throw usageError(
      `isola dead-letters has no ${JSON.stringify(first)}: use FN, show ID, redrive ID or discard ID`,
    )
  },
}

async function list(
  context: CommandContext,
  name: string,
  limit: number | undefined,
): Promise<CommandResult> {
  const client = await connectToNode(context)
  const deadLetters = await client.listDeadLetters(name, limit === undefined ? {} : { limit })
  const nowMs = Date.now()
  const rows = deadLetters.map(({ id, diedAt, tries, reason }) => [
    id,
    formatAge(diedAt, nowMs),
    String(tries),
    printable(reason.length > REASON_CHARS_SHOWN ? `${reason.slice(0, REASON_CHARS_SHOWN - 1)}…` : reason),
  ])
  return {
    document: { deadLetters },
    text:
      rows.length === 0
        ? `${name} has no dead letters`
        : formatTable(['ID', 'DIED', 'TRIES', 'REASON'], rows),
  }
}

async function show(context: CommandContext, id: string): Promise<CommandResult> {
  const letter = await (await connectToNode(context)).getDeadLetter(id)
  const { requestId, functionName, queuedAt, diedAt, tries, reason, payload, answer } = letter
  const lines = [
    `function    ${functionName}`,
    `request id  ${requestId}`,
    `queued      ${queuedAt}`,
    `died        ${diedAt}, after ${tries} ${tries === 1 ? 'try' : 'tries'}`,
    `reason      ${reason}`,
    `event       ${payload}`,
    ...(answer === undefined ? [] : [`answer      ${answer}`]),
  ]
  return { document: letter, text: lines.map(printable).join('\n') }
}

async function redrive(context: CommandContext, id: string): Promise<CommandResult> {
  await (await connectToNode(context)).redriveDeadLetter(id)
  return { document: { redriven: [id] }, text: `${id} is tried again from the start` }
}

/** As many as there are now: one that dies again meanwhile is not redriven twice. */
async function redriveAll(context: CommandContext, name: string): Promise<CommandResult> {
  const client = await connectToNode(context)
  const letters = await client.listDeadLetters(name, { limit: ASYNC_LIMITS.deadLettersPerReadMax })
  const redriven: string[] = []
  // Oldest first, as they were queued.
  for (const letter of letters.toReversed()) if (await isRedriven(client, letter)) redriven.push(letter.id)
  return {
    document: { redriven },
    text:
      redriven.length === 0
        ? `${name} has no dead letters`
        : `${redriven.length} of ${name} ${redriven.length === 1 ? 'is' : 'are'} tried again from the start`,
  }
}

/** False where it has gone since it was listed. */
async function isRedriven(client: ControlClient, { id }: DeadLetterSummary): Promise<boolean> {
  try {
    await client.redriveDeadLetter(id)
    return true
  } catch (error) {
    if ((error as { code?: unknown }).code === 'not_found') return false
    throw error
  }
}

async function discard(context: CommandContext, id: string): Promise<CommandResult> {
  await (await connectToNode(context)).discardDeadLetter(id)
  return { document: { discarded: id }, text: `${id} is discarded` }
}

/** What a function answered must not steer the terminal that shows it. `--json` has it as it was. */
function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
  return text.replaceAll(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f]/g, '\ufffd')
}
