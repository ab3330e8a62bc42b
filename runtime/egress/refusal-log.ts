import type { EgressToAgent } from '../pool/wire.ts'

type LogMessage = Extract<EgressToAgent, { type: 'log' }>

export interface RefusalLogOptions {
  readonly linesPerWindowMax: number
  readonly windowMs: number
  readonly nowMs: () => number
  readonly send: (message: LogMessage) => void
}

/** Refusals of one instance as log lines, a bounded number per window: a function in a loop must not fill the log. */
export class RefusalLog {
  readonly #options: RefusalLogOptions
  #windowStartedAtMs = -Infinity
  #lines = 0
  #suppressed = 0

  constructor(options: RefusalLogOptions) {
    this.#options = options
  }

  write({ id, functionName, message }: { id: string; functionName: string; message: string }): void {
    const { linesPerWindowMax, windowMs, nowMs, send } = this.#options
    const now = nowMs()
    if (now - this.#windowStartedAtMs >= windowMs) {
      this.#windowStartedAtMs = now
      this.#lines = 0
    }
    if (this.#lines >= linesPerWindowMax) {
      this.#suppressed += 1
      return
    }
    this.#lines += 1
    const more =
      this.#suppressed === 0 ? '' : ` (${this.#suppressed} refusals before this one were not logged)`
    this.#suppressed = 0
    send({ type: 'log', lines: [{ id, functionName, message: `${message}${more}` }] })
  }
}
