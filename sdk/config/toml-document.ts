import { parse } from 'smol-toml'
import { BUILD_LIMITS } from '../model/limits.ts'
import type { ConfigPath, ParsedText, Position, SyntaxProblem } from './document.ts'

export function parseTomlDocument(text: string): ParsedText | SyntaxProblem {
  let value: unknown
  try {
    value = parse(text, { maxDepth: BUILD_LIMITS.configDepthMax })
  } catch (error) {
    const { message, line, column } = error as Error & { line?: number; column?: number }
    const reason = (message.split('\n')[0] ?? '').replace(/^Invalid TOML document: /, '')
    return { line: line ?? 1, column: column ?? 1, message: `this is not TOML: ${reason}` }
  }
  let positions: ReadonlyMap<string, Position> | undefined
  return {
    value,
    locate(path) {
      positions ??= findPositions(text)
      for (let length = path.length; length > 0; length--) {
        const position = positions.get(JSON.stringify(path.slice(0, length)))
        if (position !== undefined) return position
      }
      return undefined
    },
  }
}

/**
 * Where each table header and key stands. The parser keeps no places, so this reads the lines again; what it cannot
 * tell (keys of inline tables, elements of arrays) is where its parent is.
 */
function findPositions(text: string): Map<string, Position> {
  const positions = new Map<string, Position>()
  const countByArray = new Map<string, number>()
  let table: ConfigPath = []
  let quote: string | undefined
  const note = (path: ConfigPath, position: Position): void => {
    for (let length = 1; length <= path.length; length++) {
      const key = JSON.stringify(path.slice(0, length))
      if (!positions.has(key)) positions.set(key, position)
    }
  }
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const inString = quote !== undefined
    quote = openQuote(line, quote)
    if (inString) continue
    const position = { line: index + 1, column: line.length - line.trimStart().length + 1 }
    const header = /^\s*(\[\[?)([^\]]+)\]/.exec(line)
    if (header !== null) {
      table = withIndexes(splitKey(header[2] ?? ''), countByArray)
      if (header[1] === '[[') {
        const key = JSON.stringify(table)
        const count = countByArray.get(key) ?? 0
        countByArray.set(key, count + 1)
        note(table, position)
        table = [...table, count]
      }
      note(table, position)
      continue
    }
    const key = /^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=/.exec(line)?.[1]
    if (key !== undefined) note([...table, ...splitKey(key)], position)
  }
  return positions
}

/** No more parts than a value may be deep: longer keys are refused elsewhere, and must not cost their square here. */
function splitKey(text: string): string[] {
  return [...text.matchAll(/[\w-]+|"[^"]*"|'[^']*'/g)]
    .slice(0, BUILD_LIMITS.configDepthMax + 1)
    .map(([part]) => part.replace(/^["']|["']$/g, ''))
}

/** `[a.b]` below `[[a]]` means the last element of `a`. */
function withIndexes(keys: readonly string[], countByArray: ReadonlyMap<string, number>): ConfigPath {
  let path: ConfigPath = []
  for (const [index, key] of keys.entries()) {
    path = [...path, key]
    const count = countByArray.get(JSON.stringify(path))
    if (count !== undefined && index < keys.length - 1) path = [...path, count - 1]
  }
  return path
}

/** The multi-line quote that is open after this line. */
function openQuote(line: string, open: string | undefined): string | undefined {
  let quote = open
  for (const [mark] of line.matchAll(/"""|'''/g)) {
    if (quote === undefined) quote = mark
    else if (quote === mark) quote = undefined
  }
  return quote
}
