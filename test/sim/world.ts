/** Virtual time, the randomness of one run, and who looks on. */
import { EventQueue } from './event-queue.ts'
import type { Fact } from './facts.ts'
import type { Random } from './random.ts'
import type { Range } from './scenario.ts'

export class World {
  nowMs = 0
  readonly random: Random
  readonly #queue = new EventQueue()
  readonly #observe: (fact: Fact, nowMs: number) => void

  constructor(random: Random, observe: (fact: Fact, nowMs: number) => void) {
    this.random = random
    this.#observe = observe
  }

  /** A step at a time that has passed already is the next one. */
  at(atMs: number, step: () => void): void {
    if (atMs < Number.POSITIVE_INFINITY) this.#queue.push(Math.max(atMs, this.nowMs), step)
  }

  in(delayMs: number, step: () => void): void {
    this.at(this.nowMs + delayMs, step)
  }

  every(intervalMs: number, step: () => void): void {
    const again = (): void => {
      step()
      this.in(intervalMs, again)
    }
    this.in(this.random.between(0, intervalMs), again)
  }

  observe(fact: Fact): void {
    this.#observe(fact, this.nowMs)
  }

  between([low, high]: Range): number {
    return this.random.between(low, high)
  }

  runUntil(endMs: number): void {
    while (this.#queue.nextMs <= endMs) {
      this.nowMs = this.#queue.nextMs
      this.#queue.pop()?.()
    }
    this.nowMs = endMs
  }
}
