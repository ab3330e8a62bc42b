import { resolve } from 'node:path'
import type { PriceTable, UsageHour, UsageReport } from '../../model/usage.ts'
import { type Command, type CommandContext, NODE_FLAGS } from '../command.ts'
import { parseDurationMs } from '../../config/duration.ts'
import { connectToNode } from '../find-node.ts'
import { formatBytes, formatTable } from '../output.ts'
import { usageError } from '../parse-arguments.ts'
import { costOf, readPriceTable, type Cost } from '../price-table.ts'

type Numbers = Omit<UsageHour, 'functionName' | 'hour'>
type By = 'function' | 'hour'

interface UsageRow extends Numbers {
  readonly functionName: string
  /** Where it is by hour. */
  readonly hour?: string
  readonly cost?: Cost
}

const HOUR_MS = 3_600_000
const SINCE_DEFAULT = '24h'
const ISO = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?(?:Z|[+-]\d{2}:\d{2}))?$/

export const usageCommand: Command = {
  name: 'usage',
  summary: 'show what functions used, and what that costs',
  usage: '[FN]',
  words: [0, 1],
  flags: {
    since: {
      type: 'text',
      value: 'TIME',
      help: `how long back (7d), or from when on (2026-11-01, UTC; default ${SINCE_DEFAULT})`,
    },
    by: {
      type: 'text',
      value: 'function|hour',
      help: 'a row for each function (default), or for each hour of it',
    },
    prices: { type: 'text', value: 'FILE', help: 'price table (JSON): adds costs' },
    ...NODE_FLAGS,
  },
  notes: [
    'Usage is kept by the hour (UTC): the hour in which --since lies is counted whole.',
    'A price table has a currency, and what it charges of perMillionRequests, perMillionCpuMs, perGbS (GiB of memory',
    'for a second), perEgressGb (10^9 bytes) and perThousandColdStarts.',
  ].join('\n'),
  examples: [
    'isola usage',
    'isola usage hello --since 7d --by hour',
    'isola usage --since 2026-11-01 --prices prices.json --json',
  ],
  async run(context) {
    const nowMs = Date.now()
    const sinceMs = parseSince(context.flags.text('since') ?? SINCE_DEFAULT, nowMs)
    const by = parseBy(context.flags.text('by') ?? 'function')
    const prices = await pricesOf(context)
    const [functionName] = context.words
    const client = await connectToNode(context)
    const report = await client.usage({ sinceMs, ...(functionName !== undefined && { functionName }) })
    const since = new Date(Math.floor(sinceMs / HOUR_MS) * HOUR_MS).toISOString()
    const { rows, total } = summarize(report, by, prices)
    const { lagS } = report
    return {
      document: { since, by, lagS, ...(prices && { currency: prices.currency }), rows, total },
      text: formatUsage({ since, by, lagS, rows, total, prices }),
    }
  },
}

function parseSince(text: string, nowMs: number): number {
  const durationMs = parseDurationMs(text)
  if (durationMs !== undefined) return Math.max(0, nowMs - durationMs)
  const sinceMs = ISO.test(text) && isOnCalendar(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(sinceMs)) {
    throw usageError(
      `--since is ${JSON.stringify(text)}: give how long back, e.g. 24h or 7d, or a time in UTC, e.g. 2026-11-01 or 2026-11-01T08:00Z`,
    )
  }
  if (sinceMs > nowMs) throw usageError(`--since is ${JSON.stringify(text)}, which is still to come`)
  return sinceMs
}

/** `Date.parse` takes 31 February for 3 March. */
function isOnCalendar(text: string): boolean {
  const dayMs = Date.parse(`${text.slice(0, 10)}T00:00:00Z`)
  return !Number.isNaN(dayMs) && new Date(dayMs).toISOString().startsWith(text.slice(0, 10))
}

function parseBy(text: string): By {
  if (text === 'function' || text === 'hour') return text
  throw usageError(`--by is ${JSON.stringify(text)}: give function or hour`)
}

async function pricesOf({ flags, workingDirectory }: CommandContext): Promise<PriceTable | undefined> {
  const file = flags.text('prices')
  return file === undefined ? undefined : readPriceTable(resolve(workingDirectory, file))
}

/** Rows in order, and the sum of them all. Costs are of the sums, so that nothing is rounded twice. */
function summarize(
  report: UsageReport,
  by: By,
  prices: PriceTable | undefined,
): { readonly rows: readonly UsageRow[]; readonly total: Omit<UsageRow, 'functionName'> } {
  const rowByName = new Map<string, UsageRow>()
  let total = NOTHING
  for (const { functionName, hour, ...numbers } of report.hours) {
    const name = by === 'hour' ? `${hour} ${functionName}` : functionName
    const row = rowByName.get(name)
    const sums = addNumbers(row ?? NOTHING, numbers)
    rowByName.set(name, { functionName, ...(by === 'hour' && { hour }), ...sums })
    total = addNumbers(total, numbers)
  }
  const priced = <T extends Numbers>(row: T): T => (prices ? { ...row, cost: costOf(prices, row) } : row)
  const names = [...rowByName.keys()].sort()
  return { rows: names.flatMap((name) => priced(rowByName.get(name)!)), total: priced(total) }
}

const NOTHING: Numbers = {
  requests: 0,
  refused: 0,
  coldStarts: 0,
  cpuMs: 0,
  gbS: 0,
  responseBytes: 0,
  egressBytes: 0,
}

function addNumbers(a: Numbers, b: Numbers): Numbers {
  return {
    requests: a.requests + b.requests,
    refused: a.refused + b.refused,
    coldStarts: a.coldStarts + b.coldStarts,
    cpuMs: Math.round((a.cpuMs + b.cpuMs) * 1e3) / 1e3,
    gbS: Math.round((a.gbS + b.gbS) * 1e6) / 1e6,
    responseBytes: a.responseBytes + b.responseBytes,
    egressBytes: a.egressBytes + b.egressBytes,
  }
}

function formatUsage(usage: {
  readonly since: string
  readonly by: By
  readonly lagS: number
  readonly rows: readonly UsageRow[]
  readonly total: Omit<UsageRow, 'functionName'>
  readonly prices: PriceTable | undefined
}): string {
  const { since, by, lagS, rows, total, prices } = usage
  if (rows.length === 0) return `nothing was used since ${formatHour(since)}`
  const names = by === 'hour' ? ['HOUR', 'FUNCTION'] : ['FUNCTION']
  const nameCells = ({ functionName, hour = '' }: UsageRow): string[] =>
    by === 'hour' ? [formatHour(hour), functionName] : [functionName]
  const totalCells = by === 'hour' ? ['total', ''] : ['total']
  const parts = [
    `usage since ${formatHour(since)} (UTC); the last ${lagS} s may be missing`,
    formatTable(
      [...names, 'REQUESTS', 'REFUSED', 'COLD', 'CPU-MS', 'GB-S', 'SENT', 'EGRESS'],
      [
        ...rows.map((row) => [...nameCells(row), ...numberCells(row)]),
        [...totalCells, ...numberCells(total)],
      ],
    ),
  ]
  if (prices !== undefined) {
    parts.push(
      `costs in ${prices.currency}`,
      formatTable(
        [...names, 'REQUESTS', 'COLD', 'CPU', 'MEMORY', 'EGRESS', 'TOTAL'],
        [
          ...rows.map((row) => [...nameCells(row), ...costCells(row.cost)]),
          [...totalCells, ...costCells(total.cost)],
        ],
      ),
    )
  }
  return parts.join('\n\n')
}

function formatHour(iso: string): string {
  return iso.slice(0, 16).replace('T', ' ')
}

function numberCells(numbers: Numbers): string[] {
  return [
    String(numbers.requests),
    String(numbers.refused),
    String(numbers.coldStarts),
    String(Math.round(numbers.cpuMs)),
    numbers.gbS.toFixed(3),
    formatBytes(numbers.responseBytes),
    formatBytes(numbers.egressBytes),
  ]
}

function costCells(cost: Cost | undefined): string[] {
  if (cost === undefined) return []
  const { requests, coldStarts, cpu, memory, egress, total } = cost
  return [requests, coldStarts, cpu, memory, egress, total].map(formatMoney)
}

/** Two digits at least; what is cheap needs more to be seen at all. */
function formatMoney(value: number): string {
  return value.toFixed(6).replace(/(\.\d\d\d*?)0+$/, '$1')
}
