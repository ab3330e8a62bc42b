/**
 * Where a command writes. Results go to stdout, as text or (with `--json`) as JSON and nothing else; all that is
 * said along the way (warnings, progress, the text of an error) goes to stderr, so a pipe never reads it.
 */
export interface Output {
  readonly json: boolean
  /** A line of the result for a person; nothing under `--json`. */
  line(text: string): void
  /** A line of JSON under `--json`; otherwise nothing. */
  document(value: unknown): void
  /** What is being done now. */
  progress(text: string): void
  /** Printed, and kept for the JSON document. */
  warn(text: string): void
  readonly warnings: readonly string[]
}

export interface OutputStreams {
  readonly stdout: { write(text: string): unknown }
  readonly stderr: { write(text: string): unknown }
}

export function createOutput(options: { readonly json: boolean; readonly streams: OutputStreams }): Output {
  const { json, streams } = options
  const warnings: string[] = []
  return {
    json,
    warnings,
    line(text) {
      if (!json) streams.stdout.write(`${text}\n`)
    },
    document(value) {
      if (json) streams.stdout.write(`${JSON.stringify(value)}\n`)
    },
    progress(text) {
      streams.stderr.write(`${text}\n`)
    },
    warn(text) {
      warnings.push(text)
      streams.stderr.write(`warning: ${text}\n`)
    },
  }
}

/** Columns as wide as their widest cell, two spaces apart; no trailing spaces. */
export function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)),
  )
  return [headings, ...rows]
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

export function formatBytes(sizeBytes: number): string {
  let size = sizeBytes
  let unit = 0
  while (size >= 1024 && unit < BYTE_UNITS.length - 1) {
    size /= 1024
    unit++
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${BYTE_UNITS[unit]}`
}
