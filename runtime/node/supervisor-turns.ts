/** Starts that nobody planned (trials of deploys), so many at a time; the others wait their turn. */
export class StartTurns {
  readonly #atOnceMax: number
  readonly #waiting: (() => void)[] = []
  #taken = 0

  constructor(atOnceMax: number) {
    this.#atOnceMax = atOnceMax
  }

  async take<T>(start: () => Promise<T>): Promise<T> {
    // The turn of one that is done passes on without being free in between.
    if (this.#taken >= this.#atOnceMax) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    else this.#taken++
    try {
      return await start()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#taken--
      else next()
    }
  }
}
