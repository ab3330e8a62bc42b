import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Location, Message } from 'esbuild'
import { IsolaError } from '../sdk/model/errors.ts'
import { BUILD_LIMITS } from '../sdk/model/limits.ts'
import { codeFrame } from './code-frame.ts'

/** One thing that a build has to say about the sources. */
export interface Diagnostic {
  readonly text: string
  /** Relative to the project directory. Absent, like all below, where it is about no place. */
  readonly file?: string
  /** Both from 1, in characters. */
  readonly line?: number
  readonly column?: number
  readonly frame?: string
  /** What else is known, and what to do. */
  readonly notes?: readonly string[]
}

const TEXT_LENGTH_MAX = 2_000

/** `file:line:column: text`, then the frame, then the notes. */
export function formatDiagnostic(diagnostic: Diagnostic): string {
  const { file, line, column, text, frame, notes = [] } = diagnostic
  const place =
    file === undefined ? '' : line === undefined ? `${file}: ` : `${file}:${line}:${column ?? 1}: `
  return [
    `${place}${text}`,
    ...(frame === undefined ? [] : [frame]),
    ...notes.map((note) => `  ${note}`),
  ].join('\n')
}

/** A `build_failed` error that shows the first diagnostics and says how many more there are. */
export function buildFailed(diagnostics: readonly Diagnostic[], cause?: unknown): IsolaError {
  const shown = diagnostics.slice(0, BUILD_LIMITS.diagnosticsCountMax)
  const more = diagnostics.length - shown.length
  const parts = shown.map(formatDiagnostic)
  if (more > 0) parts.push(`… and ${more} more error${more === 1 ? '' : 's'}`)
  const count = diagnostics.length === 1 ? '1 error' : `${diagnostics.length} errors`
  return new IsolaError('build_failed', `the build failed with ${count}:\n\n${parts.join('\n\n')}`, {
    cause,
    details: { diagnostics: shown, errorsCount: diagnostics.length },
  })
}

export function fromEsbuildMessage(message: Message, projectDirectory: string): Diagnostic {
  const notes = [
    // Nothing is external here, beyond what the runtime has.
    ...message.notes.filter(({ text }) => !text.startsWith('You can mark the path ')),
    ...advice(message).map((text) => ({ text, location: null })),
  ].map((note) => formatNote(note.text, note.location))
  const text = message.text.slice(0, TEXT_LENGTH_MAX)
  return {
    text: message.pluginName === '' ? text : text.replace(/^\[plugin [^\]]*\] /, ''),
    ...(message.location && place(message.location, projectDirectory)),
    ...(notes.length > 0 && { notes }),
  }
}

function place(
  location: Location,
  projectDirectory: string,
): Pick<Diagnostic, 'file' | 'line' | 'column' | 'frame'> {
  // esbuild counts bytes from 0.
  const before = Buffer.from(location.lineText).subarray(0, location.column).toString()
  const column = before.length + 1
  const length = Buffer.from(location.lineText)
    .subarray(location.column, location.column + location.length)
    .toString().length
  const frame = codeFrame({
    ...surroundings(location, projectDirectory),
    line: location.line,
    column,
    length,
  })
  return { file: location.file, line: location.line, column, frame }
}

/** The file as it is, if it still has that line; else the line alone, as esbuild remembers it. */
function surroundings(location: Location, projectDirectory: string): { text: string; firstLine: number } {
  if (location.namespace === 'file' || location.namespace === '') {
    try {
      const text = readFileSync(resolve(projectDirectory, location.file), 'utf8')
      const line = text.split(/\r\n|\n|\r/)[location.line - 1]
      if (line !== undefined && line.startsWith(location.lineText.slice(0, 80))) return { text, firstLine: 1 }
    } catch {
      // Gone or unreadable since: the line alone will do.
    }
  }
  return { text: location.lineText, firstLine: location.line }
}

function formatNote(text: string, location: Location | null): string {
  return location === null ? text : `${location.file}:${location.line}: ${text}`
}

function advice(message: Message): string[] {
  const extension = /^No loader is configured for "(\.[^"]+)" files/.exec(message.text)?.[1]
  if (extension !== undefined) {
    return [
      `to import such files as they are, add a rule: "rules": [{ "type": "Data", "globs": ["**/*${extension}"] }] ` +
        `("Data" gives an ArrayBuffer, "Text" a string)`,
    ]
  }
  const name = /^Could not resolve "((?:@[^"/:]+\/)?[^"/.#:][^"/:]*)(?:\/[^":]*)?"$/.exec(message.text)?.[1]
  const isExplained = message.notes.some(({ text }) => !text.startsWith('You can mark the path '))
  if (name !== undefined && !isExplained) {
    return [`if "${name}" is a package, install it where the function is: npm install ${name}`]
  }
  return []
}
