/** What a bench hands back, and how it is printed: one markdown document, or the same as JSON. */

export interface Table {
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

/** A promise of the project beside what was measured. */
export interface Mark {
  readonly promise: string
  readonly measured: number
  readonly limit: number
  readonly unit: string
}

export interface Report {
  /** How it was measured: load, durations, settings of the peers. One sentence each. */
  readonly conditions: readonly string[]
  readonly tables: readonly Table[]
  readonly marks: readonly Mark[]
}

export interface BenchOptions {
  /** Shorter and fewer measurements: shows that everything works, not how fast it is. */
  readonly quick: boolean
  /** Says what is being measured right now. */
  progress(line: string): void
}

export function isKept(mark: Mark): boolean {
  return mark.measured <= mark.limit
}

export function formatReport(name: string, machine: readonly string[], report: Report): string {
  const lines = [`## ${name}`, '', ...machine.map((fact) => `- ${fact}`), '']
  lines.push(...report.conditions.map((condition) => `- ${condition}`), '')
  for (const table of report.tables) lines.push(`### ${table.title}`, '', ...formatTable(table), '')
  if (report.marks.length > 0) {
    lines.push('### Promises', '')
    const rows = report.marks.map((mark) => [
      mark.promise,
      `${formatNumber(mark.measured)} ${mark.unit}`,
      `≤ ${formatNumber(mark.limit)} ${mark.unit}`,
      isKept(mark) ? 'kept' : 'MISSED',
    ])
    lines.push(...formatTable({ title: '', columns: ['promise', 'measured', 'limit', ''], rows }), '')
  }
  return lines.join('\n')
}

function formatTable({ columns, rows }: Table): string[] {
  const widths = columns.map((column, index) =>
    Math.max(column.length, ...rows.map((row) => row[index]?.length ?? 0)),
  )
  const line = (cells: readonly string[]): string =>
    `| ${widths.map((width, index) => pad(cells[index] ?? '', width, index)).join(' | ')} |`
  return [
    line(columns),
    `|${widths.map((width, index) => `${'-'.repeat(width + 1)}${index === 0 ? '-' : ':'}`).join('|')}|`,
    ...rows.map(line),
  ]
}

function pad(cell: string, width: number, column: number): string {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width)
}

/** Three digits that mean something. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '–'
  const size = Math.abs(value)
  if (size >= 1_000 || Number.isInteger(value)) return Math.round(value).toLocaleString('en-US')
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2)
}
