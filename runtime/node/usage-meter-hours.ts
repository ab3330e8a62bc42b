/**
 * The hours that are being counted. An hour begins with what the bucket may hold of it already (a clock that went back
 * counts on in an hour that was over); until that is known, only what came since is here.
 */
import type { UsageNumbers, UsageRows } from '../registry/usage-store.ts'

type Sums = { -readonly [Field in keyof UsageNumbers]: number }

interface OpenHour {
  readonly sumsByFunction: Map<string, Sums>
  /** What was on the bucket is among the sums. */
  isWhole: boolean
  additions: number
}

const HOUR_MS = 3_600_000
const NOTHING: UsageNumbers = {
  requests: 0,
  refused: 0,
  coldStarts: 0,
  cpuMs: 0,
  gbS: 0,
  responseBytes: 0,
  egressBytes: 0,
}

/** Begin of the hour, ISO 8601. */
export function hourOf(timeMs: number): string {
  return new Date(Math.floor(timeMs / HOUR_MS) * HOUR_MS).toISOString()
}

export class OpenHours {
  readonly #hours = new Map<string, OpenHour>()

  constructor(stored: ReadonlyMap<string, UsageRows> = new Map()) {
    for (const [hour, rows] of stored) {
      const sums = new Map([...rows].map(([name, numbers]) => [name, { ...numbers }]))
      this.#hours.set(hour, { sumsByFunction: sums, isWhole: true, additions: 0 })
    }
  }

  add(hour: string, functionName: string, numbers: Partial<UsageNumbers>): void {
    let open = this.#hours.get(hour)
    if (open === undefined) {
      open = { sumsByFunction: new Map(), isWhole: false, additions: 0 }
      this.#hours.set(hour, open)
    }
    open.additions++
    addTo(open, functionName, numbers)
  }

  /** Makes every hour whole with what `read` finds of it. */
  async complete(read: (hour: string) => Promise<UsageRows | undefined>): Promise<void> {
    for (const [hour, open] of this.#hours) {
      if (open.isWhole) continue
      const found = await read(hour)
      // Two may have read it at the same time: the sums of it come in once.
      if (open.isWhole) continue
      open.isWhole = true
      for (const [functionName, numbers] of found ?? []) addTo(open, functionName, numbers)
    }
  }

  get names(): readonly string[] {
    return [...this.#hours.keys()]
  }

  has(hour: string): boolean {
    return this.#hours.has(hour)
  }

  rows(hour: string): UsageRows {
    return this.#hours.get(hour)?.sumsByFunction ?? new Map()
  }

  /** Changes with every addition to the hour. */
  additions(hour: string): number {
    return this.#hours.get(hour)?.additions ?? 0
  }

  remove(hour: string): void {
    this.#hours.delete(hour)
  }
}

function addTo(open: OpenHour, functionName: string, numbers: Partial<UsageNumbers>): void {
  let sums = open.sumsByFunction.get(functionName)
  if (sums === undefined) {
    sums = { ...NOTHING }
    open.sumsByFunction.set(functionName, sums)
  }
  for (const [field, value] of Object.entries(numbers) as [keyof UsageNumbers, number][]) sums[field] += value
}
