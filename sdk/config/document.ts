import { basename } from 'node:path'
import { IsolaError } from '../model/errors.ts'
import { BUILD_LIMITS } from '../model/limits.ts'
import { codeFrame } from '../../bundler/code-frame.ts'
import { parseJsonDocument } from './json-document.ts'
import { parseTomlDocument } from './toml-document.ts'

export type ConfigPath = readonly (string | number)[]

/** Where something is in a text; both from 1. */
export interface Position {
  readonly line: number
  readonly column: number
}

/** What a parser makes of a text: a value of plain JSON types, and where its parts are. */
export interface ParsedText {
  readonly value: unknown
  /** Of the nearest part that is there: a missing field is where its parent is. */
  locate(path: ConfigPath): Position | undefined
}

export interface SyntaxProblem extends Position {
  readonly message: string
}

export interface ConfigDocument extends ParsedText {
  readonly file: string
  readonly fileName: string
  readonly text: string
}

/** Throws `config_invalid` with line, column and code frame for a text that is not JSON or TOML of plain values. */
export function parseDocument(file: string, bytes: Uint8Array): ConfigDocument {
  const fileName = basename(file)
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new IsolaError('config_invalid', `${file} is not UTF-8: save it in that encoding`, { cause: error })
  }
  const parsed = fileName.endsWith('.toml') ? parseTomlDocument(text) : parseJsonDocument(text)
  const problem = 'message' in parsed ? parsed : findImpossible(parsed)
  if (problem !== undefined) throw syntaxError(file, fileName, text, problem)
  return { ...(parsed as ParsedText), file, fileName, text }
}

function syntaxError(file: string, fileName: string, text: string, problem: SyntaxProblem): IsolaError {
  const { line, column, message } = problem
  const frame = codeFrame({ text, line, column })
  return new IsolaError('config_invalid', `${fileName}:${line}:${column}: ${message}\n${frame}`, {
    details: { problems: [{ code: 'config_invalid', field: '', message, file, line, column }] },
  })
}

/** Values that one format has and the other has not, or that would be lost on the way. */
function findImpossible(parsed: ParsedText): SyntaxProblem | undefined {
  const walk = (value: unknown, path: ConfigPath): SyntaxProblem | undefined => {
    const refuse = (message: string): SyntaxProblem => ({
      line: 1,
      column: 1,
      ...parsed.locate(path),
      message,
    })
    if (path.length > BUILD_LIMITS.configDepthMax) {
      return refuse(`nested deeper than ${BUILD_LIMITS.configDepthMax} levels: write it flatter`)
    }
    if (typeof value === 'number' && !Number.isFinite(value)) {
      return refuse(`the number ${value} is not usable: write it as a string`)
    }
    if (value instanceof Date) return refuse('a TOML date is not usable: write it as a string, in quotes')
    if (typeof value !== 'object' || value === null) return undefined
    for (const [key, child] of Object.entries(value)) {
      const childPath = [...path, Array.isArray(value) ? Number(key) : key]
      const problem =
        key === '__proto__'
          ? {
              line: 1,
              column: 1,
              ...parsed.locate(childPath),
              message: 'the key "__proto__" is not usable: rename it',
            }
          : walk(child, childPath)
      if (problem !== undefined) return problem
    }
    return undefined
  }
  return walk(parsed.value, [])
}
