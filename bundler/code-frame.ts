const WIDTH = 100
const CONTEXT_LINES = 2
const MARGIN = 20

/**
 * The lines around a position with a caret under it. Lines longer than a screen (a minified dependency) are cut
 * around the position; what a terminal could take for a command is shown as a blank.
 */
export function codeFrame(options: {
  /** Whole lines; `firstLine` is the number of the first of them. */
  readonly text: string
  readonly firstLine?: number
  /** Both from 1. */
  readonly line: number
  readonly column: number
  /** Characters to underline. @default 1 */
  readonly length?: number
}): string {
  const { line, column } = options
  const firstLine = options.firstLine ?? 1
  const lines = options.text.split(/\r\n|\n|\r/)
  const from = Math.max(firstLine, line - CONTEXT_LINES)
  const gutter = String(line).length
  // Lines that a person wrote begin where they begin, unless the place is then off the screen.
  const cut = column <= WIDTH - MARGIN ? 0 : column - 1 - Math.floor(WIDTH / 2)
  const frame: string[] = []
  for (let number = from; number <= line; number++) {
    const source = lines[number - firstLine]
    if (source === undefined) break
    frame.push(`  ${String(number).padStart(gutter)} | ${excerpt(source, cut)}`.trimEnd())
  }
  const last = lines[line - firstLine]
  if (last === undefined) return ''
  const room = Math.max(1, Math.min(last.length, cut + WIDTH) - (column - 1))
  const underline = '^'.repeat(Math.max(1, Math.min(options.length ?? 1, room)))
  frame.push(`  ${' '.repeat(gutter)} | ${' '.repeat(Math.max(0, column - 1 - cut))}${underline}`)
  return frame.join('\n')
}

/** `WIDTH` characters from `cut` on, with "…" in place of the first and the last where more is there. */
function excerpt(source: string, cut: number): string {
  const text = printable(source.slice(cut, cut + WIDTH))
  const start = cut > 0 && text !== '' ? `…${text.slice(1)}` : text
  return source.length > cut + WIDTH ? `${start.slice(0, -1)}…` : start
}

function printable(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')
}
