/** Random numbers that a seed decides: the same seed gives the same run on every machine. (xoshiro128**, seeded by splitmix32.) */
export class Random {
  readonly #state = new Uint32Array(4)

  constructor(seed: number) {
    let mixed = seed >>> 0
    for (let index = 0; index < 4; index++) {
      mixed = (mixed + 0x9e3779b9) >>> 0
      let word = mixed
      word = Math.imul(word ^ (word >>> 16), 0x21f0aaad)
      word = Math.imul(word ^ (word >>> 15), 0x735a2d97)
      this.#state[index] = (word ^ (word >>> 15)) >>> 0
    }
  }

  /** Another, independent of how many numbers are drawn here later. */
  fork(): Random {
    return new Random(this.#word())
  }

  /** In [0, 1). */
  next(): number {
    return this.#word() / 0x1_0000_0000
  }

  between(low: number, high: number): number {
    return low + (high - low) * this.next()
  }

  /** Whole number from `low` to `high`, both included. */
  whole(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1))
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.whole(0, items.length - 1)]
    if (item === undefined) throw new Error('nothing to pick from')
    return item
  }

  exponential(mean: number): number {
    return -Math.log(1 - this.next()) * mean
  }

  /** Heavy tail: without a mean for `shape` ≤ 1. */
  pareto(low: number, shape: number): number {
    return low / (1 - this.next()) ** (1 / shape)
  }

  logUniform(low: number, high: number): number {
    return low * (high / low) ** this.next()
  }

  #word(): number {
    const state = this.#state
    const a = state[0]!
    const b = state[1]!
    const c = state[2]!
    const d = state[3]!
    const scaled = Math.imul(b, 5)
    const result = Math.imul((scaled << 7) | (scaled >>> 25), 9) >>> 0
    const e = c ^ a
    const f = d ^ b
    state[1] = b ^ e
    state[0] = a ^ f
    state[2] = e ^ (b << 9)
    state[3] = (f << 11) | (f >>> 21)
    return result
  }
}
