/** What happens next in virtual time: a binary heap by time, and in the order of `push` among equals. */
export class EventQueue {
  readonly #timesMs: number[] = []
  readonly #orders: number[] = []
  readonly #steps: (() => void)[] = []
  #order = 0

  get size(): number {
    return this.#steps.length
  }

  get nextMs(): number {
    return this.#timesMs[0] ?? Number.POSITIVE_INFINITY
  }

  push(atMs: number, step: () => void): void {
    let index = this.#steps.length
    const order = this.#order++
    while (index > 0) {
      const parent = (index - 1) >> 1
      // One that comes later never goes before its equal.
      if (this.#timesMs[parent]! <= atMs) break
      this.#move(parent, index)
      index = parent
    }
    this.#put(index, atMs, order, step)
  }

  pop(): (() => void) | undefined {
    const first = this.#steps[0]
    const atMs = this.#timesMs.pop()
    const order = this.#orders.pop()
    const step = this.#steps.pop()
    if (step === undefined || atMs === undefined || order === undefined) return undefined
    const size = this.#steps.length
    if (size === 0) return first
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= size) break
      if (child + 1 < size && this.#isBefore(child + 1, this.#timesMs[child]!, this.#orders[child]!)) child++
      if (!this.#isBefore(child, atMs, order)) break
      this.#move(child, index)
      index = child
    }
    this.#put(index, atMs, order, step)
    return first
  }

  #isBefore(index: number, atMs: number, order: number): boolean {
    const timeMs = this.#timesMs[index]!
    return timeMs < atMs || (timeMs === atMs && this.#orders[index]! < order)
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#timesMs[from]!, this.#orders[from]!, this.#steps[from]!)
  }

  #put(index: number, atMs: number, order: number, step: () => void): void {
    this.#timesMs[index] = atMs
    this.#orders[index] = order
    this.#steps[index] = step
  }
}
