import type { FlagValues } from './parse-arguments.ts'
import type { Output } from './output.ts'

/** One command of `isola`. Its help, its parsing and its place in the list all come from this description. */
export interface Command {
  readonly name: string
  /** One line, for the list of commands. */
  readonly summary: string
  /** What stands after the name: `FN [VERSION]`. Empty where there is nothing. */
  readonly usage: string
  /** Fewest and most words after the name. */
  readonly words: readonly [number, number]
  readonly flags: Readonly<Record<string, Flag>>
  readonly examples: readonly string[]
  /** More than the summary says, where a user would ask. */
  readonly notes?: string
  /** It ends well on Ctrl-C and looks at `context.stop` itself; any other command is just interrupted. */
  readonly endsOnStop?: true
  /** `undefined` where the command wrote its output itself, line by line. */
  run(context: CommandContext): Promise<CommandResult | undefined>
}

export interface Flag {
  /** `texts` may be given more than once. */
  readonly type: 'boolean' | 'text' | 'texts'
  readonly short?: string
  /** Name of the value in the help, e.g. `DIR`. */
  readonly value?: string
  readonly help: string
}

export interface CommandResult {
  /** What `--json` prints, as one document. */
  readonly document: unknown
  /** What a person reads, without the last line break. */
  readonly text: string
  /** @default 0 */
  readonly exitCode?: number
}

export interface CommandContext {
  readonly words: readonly string[]
  readonly flags: FlagValues
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly workingDirectory: string
  readonly output: Output
  /** stdin, for commands that were told to read it. */
  readonly input?: AsyncIterable<Uint8Array>
  /** Aborted by the first Ctrl-C or SIGTERM. */
  readonly stop: AbortSignal
  /** Aborted by a later one: end now, whatever is unfinished. */
  readonly stopNow: AbortSignal
  /** Aborted when nobody reads stdout or stderr any more. */
  readonly readerGone: AbortSignal
  /** Asks on the terminal. Absent where there is none. */
  readonly ask?: (question: string) => Promise<string>
}

export const JSON_FLAG: Flag = { type: 'boolean', help: 'print JSON instead of text' }

/** How a command finds its node. See `find-node.ts`. */
export const NODE_FLAGS: Readonly<Record<string, Flag>> = {
  data: { type: 'text', value: 'DIR', help: 'data directory of a node on this machine (default .isola)' },
  control: { type: 'text', value: 'URL', help: 'control URL of a node elsewhere (or ISOLA_CONTROL_URL)' },
  token: {
    type: 'text',
    value: 'TOKEN',
    help: 'its token (better: ISOLA_TOKEN, which no process list shows)',
  },
  json: JSON_FLAG,
}
