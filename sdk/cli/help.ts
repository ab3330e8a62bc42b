import type { Command, Flag } from './command.ts'
import { formatTable } from './output.ts'

export const EXIT_CODES: readonly (readonly [number, string])[] = [
  [0, 'done'],
  [1, 'refused or failed: the request, the function or its configuration'],
  [2, 'the command line is wrong; nothing was done'],
  [3, 'the node cannot be reached, or it failed'],
  [130, 'interrupted'],
]

/** What `isola` and `isola help` print. */
export function overviewText(commands: readonly Command[]): string {
  const rows = commands.map((command) => [`  ${command.name}`, command.summary])
  return [
    'isola: edge functions on machines you own',
    '',
    'Usage: isola COMMAND [flags]',
    '',
    table(rows),
    '',
    'Every command takes --json, and --help with its flags and examples.',
    'A node is found by --control URL or --data DIR, else by ISOLA_CONTROL_URL and ISOLA_TOKEN, else in .isola.',
    '',
    'Exit codes:',
    table(EXIT_CODES.map(([code, meaning]) => [`  ${code}`, meaning])),
  ].join('\n')
}

export function commandText(command: Command): string {
  const parts = [
    `isola ${command.name}: ${command.summary}`,
    '',
    `Usage: isola ${command.name}${command.usage === '' ? '' : ` ${command.usage}`} [flags]`,
  ]
  if (command.notes !== undefined) parts.push('', command.notes)
  const flags = Object.entries(command.flags)
  if (flags.length > 0) parts.push('', 'Flags:', table(flags.map(([name, flag]) => flagRow(name, flag))))
  parts.push('', 'Examples:', ...command.examples.map((example) => `  ${example}`))
  return parts.join('\n')
}

/** The same as JSON, for `--json`. */
export function commandDocument(command: Command): Record<string, unknown> {
  return {
    name: command.name,
    summary: command.summary,
    usage: `isola ${command.name}${command.usage === '' ? '' : ` ${command.usage}`}`,
    flags: Object.entries(command.flags).map(([name, flag]) => ({ name: `--${name}`, ...flag })),
    examples: command.examples,
  }
}

function flagRow(name: string, flag: Flag): readonly string[] {
  const short = flag.short === undefined ? '' : `-${flag.short}, `
  const value = flag.type === 'boolean' ? '' : ` ${flag.value ?? 'VALUE'}`
  return [`  ${short}--${name}${value}`, flag.type === 'texts' ? `${flag.help} (may be repeated)` : flag.help]
}

function table(rows: readonly (readonly string[])[]): string {
  return formatTable(['', ''], rows).split('\n').slice(1).join('\n')
}
