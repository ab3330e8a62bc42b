import { ERRORS, isIsolaError } from '../model/errors.ts'
import type { Command, CommandContext } from './command.ts'
import { COMMANDS } from './command-table.ts'
import { commandDocument, commandText, EXIT_CODES, overviewText } from './help.ts'
import { createOutput, type Output, type OutputStreams } from './output.ts'
import { parseArguments, usageError } from './parse-arguments.ts'
import { suggest } from '../config/suggestion.ts'
import { ISOLA_VERSION } from '../../runtime/node/status.ts'

/** The process around the command line; `main.ts` passes the real one. */
export interface Surroundings {
  readonly argv: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly workingDirectory: string
  readonly streams: OutputStreams
  /** stdin. @default empty */
  readonly input?: AsyncIterable<Uint8Array>
  readonly stop: AbortSignal
  readonly stopNow: AbortSignal
  /** Aborted when nobody reads stdout or stderr any more. */
  readonly readerGone: AbortSignal
  readonly ask?: (question: string) => Promise<string>
}

/** Runs one command line and gives its exit code. Never rejects: what goes wrong is printed here, once. */
export async function runCommandLine(surroundings: Surroundings): Promise<number> {
  const { argv } = surroundings
  const end = argv.indexOf('--')
  const flagged = end === -1 ? argv : argv.slice(0, end)
  const output = createOutput({ json: flagged.includes('--json'), streams: surroundings.streams })
  try {
    if (flagged.includes('--version') || flagged[0] === '-v') return printVersion(output)
    const [name] = flagged.filter((word) => word !== '--json')
    if (name === undefined || ['help', '--help', '-h'].includes(name)) return printHelp(output, flagged)
    if (name.startsWith('-')) {
      throw usageError(
        `isola has no flag ${name} before a command: flags stand after it, as in "isola list ${name}"`,
      )
    }
    const command = findCommand(name)
    if (flagged.includes('--help') || flagged.includes('-h')) return printCommandHelp(output, command)
    const rest = argv.toSpliced(argv.indexOf(name), 1)
    return await runCommand(command, rest, output, surroundings)
  } catch (error) {
    return printError(error, output)
  }
}

async function runCommand(
  command: Command,
  argv: readonly string[],
  output: Output,
  surroundings: Surroundings,
): Promise<number> {
  const context: CommandContext = { ...surroundings, ...parseArguments(command, argv), output }
  const work = command.run(context)
  const result =
    command.endsOnStop === true ? await work : await Promise.race([work, interruption(surroundings.stop)])
  if (result === 'interrupted') {
    output.progress('interrupted: what the node had already accepted is done, the rest is not')
    return 130
  }
  if (result === undefined) return 0
  output.document(result.document)
  if (result.text !== '') output.line(result.text)
  return result.exitCode ?? 0
}

function interruption(stop: AbortSignal): Promise<'interrupted'> {
  return new Promise((resolve) => {
    if (stop.aborted) resolve('interrupted')
    else stop.addEventListener('abort', () => resolve('interrupted'), { once: true })
  })
}

function findCommand(name: string): Command {
  const command = COMMANDS.find((candidate) => candidate.name === name)
  if (command !== undefined) return command
  const hint = suggest(
    name,
    COMMANDS.map((candidate) => candidate.name),
  )
  throw usageError(
    `isola has no command "${name}": ${hint === undefined ? '' : `did you mean "${hint}"? `}"isola help" lists them`,
  )
}

function printVersion(output: Output): number {
  output.document({ version: ISOLA_VERSION })
  output.line(ISOLA_VERSION)
  return 0
}

function printHelp(output: Output, argv: readonly string[]): number {
  const words = argv.filter((word) => !word.startsWith('-'))
  const name = words[1]
  if (words[0] === 'help' && name !== undefined) return printCommandHelp(output, findCommand(name))
  output.document({
    commands: COMMANDS.map(commandDocument),
    exitCodes: EXIT_CODES.map(([code, meaning]) => ({ code, meaning })),
  })
  output.line(overviewText(COMMANDS))
  return 0
}

function printCommandHelp(output: Output, command: Command): number {
  output.document(commandDocument(command))
  output.line(commandText(command))
  return 0
}

/** stderr gets the text, stdout (under `--json`) the document; the exit code says whose fault it was. */
function printError(error: unknown, output: Output): number {
  if (!isIsolaError(error)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    output.progress(`isola failed, and this is a defect of isola: ${text}`)
    output.document({
      error: { code: 'internal', message: error instanceof Error ? error.message : String(error) },
    })
    return 3
  }
  output.progress(`error: ${error.message}`)
  output.document({
    error: {
      code: error.code,
      message: error.message,
      ...(error.details === undefined ? {} : { details: error.details }),
    },
    ...(output.warnings.length === 0 ? {} : { warnings: output.warnings }),
  })
  if (error.code === 'usage') return 2
  return ERRORS[error.code].fault === 'system' ? 3 : 1
}
