/**
 * Sums that outlive who counts them. A router tells what it counted since it started; the next one begins at zero. What
 * finished routers told last is kept as `finished`, so that a counter of this agent never goes back. Also within one
 * router's life: it forgets versions that are gone, and counts one that comes back from zero.
 */
import type { Histogram, VersionMetrics } from '../../sdk/model/router-metrics.ts'

export class RunningSums<Sums> {
  readonly #add: (a: Sums, b: Sums) => Sums
  readonly #isBehind: (sums: Sums, than: Sums) => boolean
  #epoch = ''
  #finished: Sums | undefined
  #last: Sums | undefined

  constructor(arithmetic: { add(a: Sums, b: Sums): Sums; isBehind(sums: Sums, than: Sums): boolean }) {
    this.#add = arithmetic.add
    this.#isBehind = arithmetic.isBehind
  }

  set(epoch: string, sums: Sums): void {
    if (this.#last !== undefined && (epoch !== this.#epoch || this.#isBehind(sums, this.#last)))
      this.#finished = this.total
    this.#epoch = epoch
    this.#last = sums
  }

  get total(): Sums | undefined {
    if (this.#last === undefined || this.#finished === undefined) return this.#last
    return this.#add(this.#finished, this.#last)
  }
}

export function createVersionSums(): RunningSums<VersionMetrics> {
  return new RunningSums<VersionMetrics>({
    add: addVersions,
    isBehind: (sums, than) => answered(sums) < answered(than),
  })
}

/** Sums by name, e.g. by error code. */
export type NamedSums = Readonly<Record<string, number>>

export function createNamedSums(): RunningSums<NamedSums> {
  return new RunningSums<NamedSums>({
    add: (a, b) => {
      const sums: Record<string, number> = { ...a }
      for (const [name, value] of Object.entries(b)) sums[name] = (sums[name] ?? 0) + value
      return sums
    },
    isBehind: (sums, than) => Object.entries(than).some(([name, value]) => (sums[name] ?? 0) < value),
  })
}

function answered({ requests }: VersionMetrics): number {
  return requests.reduce((sum, { count }) => sum + count, 0)
}

function addVersions(a: VersionMetrics, b: VersionMetrics): VersionMetrics {
  return {
    functionName: a.functionName,
    versionId: a.versionId,
    requests: addCounts(a.requests, b.requests, ({ status, cold }) => `${status} ${cold}`),
    refusals: addCounts(a.refusals, b.refusals, ({ code }) => code),
    errors: addCounts(a.errors ?? [], b.errors ?? [], ({ code }) => code),
    total: addHistograms(a.total, b.total),
    queue: addHistograms(a.queue, b.queue),
    coldStart: addHistograms(a.coldStart, b.coldStart),
    function: addHistograms(a.function, b.function),
    coldStarts: a.coldStarts + b.coldStarts,
    requestBytes: a.requestBytes + b.requestBytes,
    responseBytes: a.responseBytes + b.responseBytes,
  }
}

function addCounts<Count extends { readonly count: number }>(
  a: readonly Count[],
  b: readonly Count[],
  nameOf: (count: Count) => string,
): Count[] {
  const sums = new Map<string, Count>()
  for (const each of [...a, ...b]) {
    const sum = sums.get(nameOf(each))
    sums.set(nameOf(each), sum === undefined ? each : { ...sum, count: sum.count + each.count })
  }
  return [...sums.values()]
}

function addHistograms(a: Histogram, b: Histogram): Histogram {
  return { counts: a.counts.map((count, index) => count + (b.counts[index] ?? 0)), sumS: a.sumS + b.sumS }
}
