/**
 * The blanks of each class. A class is kept as long as a version of the head can begin as one of its blanks; some are
 * always kept, because a version is tried before any head names it. What is free is shared in the order of the classes'
 * first mention: each takes what its demand says, and the next has the rest.
 */
import { BlankDemand } from './blank-demand.ts'
import type { NodeAction } from './node-events.ts'

/** Of a class that is not always kept, while nothing starts. */
const BASE = 1
/** Classes that are kept at a time; the versions of others start without. */
const CLASSES_MAX = 16

interface Stock {
  readonly base: number
  readonly demand: BlankDemand
  /** As last asked for. */
  count: number
}

export class BlankStock {
  readonly #always: ReadonlyMap<string, number>
  readonly #stockByClass = new Map<string, Stock>()
  #dropped: string[] = []

  /** `always`: classes that are kept whatever the head says, and how many of each while nothing starts. */
  constructor(always: ReadonlyMap<string, number>) {
    this.#always = always
    for (const [blankClass, base] of always) this.#add(blankClass, base)
  }

  /** Those of the head; what is neither among them nor always kept is given back. */
  keepClasses(wanted: ReadonlySet<string>): void {
    for (const blankClass of wanted) {
      if (this.#stockByClass.size >= CLASSES_MAX) break
      if (!this.#stockByClass.has(blankClass)) this.#add(blankClass, BASE)
    }
    this.#dropped = [...this.#stockByClass.keys()].filter(
      (blankClass) => !wanted.has(blankClass) && !this.#always.has(blankClass),
    )
    for (const blankClass of this.#dropped) this.#stockByClass.delete(blankClass)
  }

  onStart(blankClass: string | undefined, nowMs: number): void {
    if (blankClass !== undefined) this.#stockByClass.get(blankClass)?.demand.onStart(nowMs)
  }

  onMeasured(mibByClass: ReadonlyMap<string, number>): void {
    for (const [blankClass, { demand, count }] of this.#stockByClass) {
      demand.onMeasured(mibByClass.get(blankClass) ?? 0, count)
    }
  }

  /** What has changed since it was last asked. */
  changes(freeMib: number, nowMs: number): NodeAction[] {
    const actions: NodeAction[] = this.#dropped.map((blankClass) => ({
      type: 'blanks',
      blankClass,
      count: 0,
    }))
    this.#dropped = []
    let leftMib = freeMib
    for (const [blankClass, stock] of this.#stockByClass) {
      const count = stock.demand.count({ base: stock.base, freeMib: leftMib }, nowMs)
      leftMib -= count * stock.demand.blankMib
      if (count === stock.count) continue
      stock.count = count
      actions.push({ type: 'blanks', blankClass, count })
    }
    return actions
  }

  #add(blankClass: string, base: number): void {
    this.#stockByClass.set(blankClass, { base, demand: new BlankDemand(), count: -1 })
  }
}
