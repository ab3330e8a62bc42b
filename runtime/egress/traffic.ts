import type { EgressToAgent } from '../pool/wire.ts'

type TrafficMessage = Extract<EgressToAgent, { type: 'traffic' }>

/** Sums since the process started. Written by those who see it go by. */
export interface FunctionTraffic {
  requests: number
  refused: number
  bytesOut: number
  bytesIn: number
}

/** What went through, by function: sums that only grow, so that whoever misses a report loses nothing. */
export class TrafficLedger {
  readonly #functionsMax: number
  readonly #entryByFunction = new Map<string, FunctionTraffic & { told: number }>()

  constructor(functionsMax: number) {
    this.#functionsMax = functionsMax
  }

  of(functionName: string): FunctionTraffic {
    let entry = this.#entryByFunction.get(functionName)
    if (entry === undefined) {
      entry = { requests: 0, refused: 0, bytesOut: 0, bytesIn: 0, told: 0 }
      this.#entryByFunction.set(functionName, entry)
    }
    return entry
  }

  /** Those that changed since they were last told. */
  takeChanged(): TrafficMessage['functions'] {
    const changed: TrafficMessage['functions'][number][] = []
    for (const [functionName, entry] of this.#entryByFunction) {
      const { requests, refused, bytesOut, bytesIn } = entry
      // The sums only grow, so one sum of them tells whether any did.
      const total = requests + refused + bytesOut + bytesIn
      if (total === entry.told) continue
      entry.told = total
      changed.push({ functionName, requests, refused, bytesOut, bytesIn })
    }
    return changed
  }

  /** For a new listener: all are told next. */
  tellAll(): void {
    for (const entry of this.#entryByFunction.values()) entry.told = 0
  }

  /** Keeps the bound. To be called when all was told; functions in use are those with an instance. */
  forget(inUse: () => ReadonlySet<string | undefined>): void {
    if (this.#entryByFunction.size <= this.#functionsMax) return
    const kept = inUse()
    for (const functionName of this.#entryByFunction.keys()) {
      if (this.#entryByFunction.size <= this.#functionsMax) return
      if (!kept.has(functionName)) this.#entryByFunction.delete(functionName)
    }
  }
}
