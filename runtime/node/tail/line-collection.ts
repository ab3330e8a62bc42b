import { TAIL_LIMITS } from '../../../sdk/model/limits.ts'
import type { LogLine } from '../../../sdk/model/log-line.ts'
import type { TraceException, TraceLog } from './trace-event.ts'
import { exceptionOf } from './trace-outcome.ts'

/** The lines of one event, within its bounds. */
export class LineCollection {
  readonly logs: TraceLog[] = []
  readonly exceptions: TraceException[] = []
  truncated = false
  firstAtMs: number | undefined
  /** Of what is held, as text. */
  heldLength = 0
  #textLength = 0

  add(line: LogLine): void {
    const message = line.values ?? [line.message]
    // Deep values are a few characters as text.
    const valuesLength = line.values === undefined ? 0 : JSON.stringify(line.values).length
    this.#textLength += Math.max(line.message.length, valuesLength) + (line.stack?.length ?? 0)
    this.truncated ||=
      this.#textLength > TAIL_LIMITS.eventTextMax ||
      this.logs.length + this.exceptions.length >= TAIL_LIMITS.eventLinesMax
    if (this.truncated) return
    this.heldLength = this.#textLength
    const timestamp = Date.parse(line.time)
    this.firstAtMs ??= timestamp
    if (line.source === 'exception') this.exceptions.push(exceptionOf(line))
    else this.logs.push({ level: line.level, message, timestamp })
  }
}
