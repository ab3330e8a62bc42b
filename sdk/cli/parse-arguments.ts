import { parseArgs } from 'node:util'
import { IsolaError } from '../model/errors.ts'
import type { Command, Flag } from './command.ts'
import { parseDurationMs } from '../config/duration.ts'
import { parseSizeBytes } from './size.ts'
import { suggest } from '../config/suggestion.ts'

/** The command line itself is wrong: exit code 2, and nothing was done. */
export function usageError(message: string): IsolaError {
  return new IsolaError('usage', message)
}

/** The flags a command was given, read by kind. A flag that was not given is `undefined`. */
export class FlagValues {
  readonly #valuesByName: ReadonlyMap<string, readonly string[]>

  constructor(valuesByName: ReadonlyMap<string, readonly string[]>) {
    this.#valuesByName = valuesByName
  }

  has(name: string): boolean {
    return this.#valuesByName.has(name)
  }

  text(name: string): string | undefined {
    return this.#valuesByName.get(name)?.at(-1)
  }

  texts(name: string): readonly string[] {
    return this.#valuesByName.get(name) ?? []
  }

  integer(name: string): number | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    if (/^\d{1,15}$/.test(text)) return Number(text)
    throw usageError(`--${name} is ${JSON.stringify(text)}: give a whole number`)
  }

  durationMs(name: string): number | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    const durationMs = parseDurationMs(text)
    if (durationMs !== undefined) return durationMs
    throw usageError(
      `--${name} is ${JSON.stringify(text)}: give a time with its unit, e.g. 500ms, 10s, 5m or 1h`,
    )
  }

  sizeBytes(name: string): number | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    const sizeBytes = parseSizeBytes(text)
    if (sizeBytes !== undefined) return sizeBytes
    throw usageError(
      `--${name} is ${JSON.stringify(text)}: give a size with its unit, e.g. 512K, 10MB or 1GiB`,
    )
  }
}

export interface ParsedArguments {
  readonly words: readonly string[]
  readonly flags: FlagValues
}

/** `argv` is what stands after the command's name. Throws `usage` with a suggestion for what it does not know. */
export function parseArguments(command: Command, argv: readonly string[]): ParsedArguments {
  const { tokens } = parseArgs({
    args: [...argv],
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries(
      Object.entries(command.flags).map(([name, flag]) => [name, parserOption(flag)]),
    ),
  })
  const words: string[] = []
  const valuesByName = new Map<string, string[]>()
  for (const token of tokens) {
    if (token.kind === 'positional') words.push(token.value)
    if (token.kind !== 'option') continue
    const flag = Object.hasOwn(command.flags, token.name) ? command.flags[token.name] : undefined
    if (flag === undefined) throw unknownFlag(command, token.rawName)
    if (flag.type === 'boolean') {
      if (token.value !== undefined)
        throw usageError(`${token.rawName} takes no value, and was given "${token.value}"`)
      valuesByName.set(token.name, ['true'])
    } else {
      if (token.value === undefined || token.value === '') {
        throw usageError(`${token.rawName} needs a value: ${token.rawName} ${flag.value ?? 'VALUE'}`)
      }
      const earlier = valuesByName.get(token.name)
      if (earlier !== undefined && flag.type === 'texts') earlier.push(token.value)
      else valuesByName.set(token.name, [token.value])
    }
  }
  checkWordCount(command, words)
  return { words, flags: new FlagValues(valuesByName) }
}

function parserOption(flag: Flag): { type: 'boolean' | 'string'; multiple: boolean; short?: string } {
  return {
    type: flag.type === 'boolean' ? 'boolean' : 'string',
    multiple: flag.type === 'texts',
    ...(flag.short === undefined ? {} : { short: flag.short }),
  }
}

function unknownFlag(command: Command, rawName: string): IsolaError {
  const known = Object.keys(command.flags).map((name) => `--${name}`)
  const hint = suggest(rawName, known)
  return usageError(
    `isola ${command.name} has no flag ${rawName}: ${hint === undefined ? '' : `did you mean ${hint}? `}"isola ${command.name} --help" lists them`,
  )
}

function checkWordCount(command: Command, words: readonly string[]): void {
  const [least, most] = command.words
  const form = `isola ${command.name}${command.usage === '' ? '' : ` ${command.usage}`}`
  if (words.length < least) throw usageError(`isola ${command.name} needs more: ${form}`)
  if (words.length > most) {
    throw usageError(`isola ${command.name} does not know what to do with "${words[most]}": ${form}`)
  }
}
