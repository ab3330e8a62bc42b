import { IsolaError } from '../model/errors.ts'
import { codeFrame } from '../../bundler/code-frame.ts'
import type { ConfigDocument, ConfigPath } from './document.ts'

/** Something in a configuration that stops it. All of a file's are reported at once. */
export interface Problem {
  readonly code: 'config_invalid' | 'config_unsupported'
  readonly path: ConfigPath
  readonly message: string
}

/** A problem as clients read it, in `details.problems`. */
interface LocatedProblem {
  readonly code: Problem['code']
  readonly field: string
  readonly message: string
  readonly file?: string
  /** Both from 1. */
  readonly line?: number
  readonly column?: number
}

const PROBLEMS_SHOWN = 20

/** `vars.A`, `routes[0].pattern`; a key that is no plain word stands in quotes. */
export function formatPath(path: ConfigPath): string {
  return path
    .map((key, index) => {
      if (typeof key === 'number') return `[${key}]`
      const plain = /^[\w$-]+$/.test(key) ? key : JSON.stringify(key)
      return index === 0 ? plain : `.${plain}`
    })
    .join('')
}

/** `config_unsupported` if nothing worse is in the file, else `config_invalid`. */
export function problemsError(
  problems: readonly Problem[],
  document: ConfigDocument | undefined,
): IsolaError {
  const located = problems
    .map((problem) => locate(problem, document))
    .toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0))
  const code = problems.some((problem) => problem.code === 'config_invalid')
    ? 'config_invalid'
    : 'config_unsupported'
  const shown = located.slice(0, PROBLEMS_SHOWN).map((problem) => formatProblem(problem, document))
  if (located.length > shown.length) shown.push(`… and ${located.length - shown.length} more`)
  const name = document?.fileName ?? 'the configuration'
  const message =
    located.length === 1 ? shown.join('') : `${name} has ${located.length} problems:\n\n${shown.join('\n\n')}`
  return new IsolaError(code, message, { details: { problems: located } })
}

function locate(problem: Problem, document: ConfigDocument | undefined): LocatedProblem {
  const position = document?.locate(problem.path)
  return {
    code: problem.code,
    field: formatPath(problem.path),
    message: problem.message,
    ...(document !== undefined && { file: document.file }),
    ...position,
  }
}

function formatProblem(problem: LocatedProblem, document: ConfigDocument | undefined): string {
  if (document === undefined) return problem.message
  const { line, column } = problem
  if (line === undefined || column === undefined) return `${document.fileName}: ${problem.message}`
  const frame = codeFrame({ text: document.text, line, column })
  return `${document.fileName}:${line}:${column}: ${problem.message}\n${frame}`
}

/** A field as it is written in the file at hand; without a file, as JSON. */
export function showField(name: string, value: string, document: ConfigDocument | undefined): string {
  const text = JSON.stringify(value)
  return document?.fileName.endsWith('.toml') ? `${name} = ${text}` : `"${name}": ${text}`
}

/** For a field that can be given without a file, when only a main module was named. */
export function howToGive(name: string, value: string, document: ConfigDocument | undefined): string {
  if (document !== undefined) return `add ${showField(name, value, document)}`
  return `without a wrangler.jsonc, give --${name.replaceAll('_', '-')} ${value}`
}

/** A value as it may stand in a message. */
export function showValue(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 79)}…` : text
}

/** With file and line, where they are known. */
export function formatWarning(
  { path, message }: { readonly path: ConfigPath; readonly message: string },
  document: ConfigDocument | undefined,
): string {
  const line = document?.locate(path)?.line
  return document === undefined
    ? message
    : `${document.fileName}${line === undefined ? '' : `:${line}`}: ${message}`
}
