import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'

/** Log lines on their way to the agent: together, and kept while there is none. */
export class LogBatch {
  #lines: LogLine[] = []
  #isScheduled = false
  /** False where nobody took them. */
  readonly #send: (lines: readonly LogLine[]) => boolean

  constructor(send: (lines: readonly LogLine[]) => boolean) {
    this.#send = send
  }

  add(line: LogLine): void {
    this.#lines.push(line)
    // Not at every line: that would be a copy of all of them each.
    if (this.#lines.length > 2 * LAMBDA_LIMITS.logLinesBufferedMax) {
      this.#lines = this.#lines.slice(-LAMBDA_LIMITS.logLinesBufferedMax)
    }
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.flush()
    })
  }

  flush(): void {
    if (this.#lines.length === 0) return
    if (this.#send(this.#lines.slice(-LAMBDA_LIMITS.logLinesBufferedMax))) this.#lines = []
  }
}
