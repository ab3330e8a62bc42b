import type { ServerResponse } from 'node:http'

/** Long polls that wait for an answer, oldest first; one whose connection closes is not among them any more. */
export class PollQueue {
  readonly #waiting = new Set<ServerResponse>()

  get length(): number {
    return this.#waiting.size
  }

  add(poll: ServerResponse): void {
    if (poll.destroyed) return
    this.#waiting.add(poll)
    poll.once('close', () => this.#waiting.delete(poll))
  }

  take(): ServerResponse | undefined {
    const [poll] = this.#waiting
    if (poll !== undefined) this.#waiting.delete(poll)
    return poll
  }

  takeAll(): ServerResponse[] {
    const all = [...this.#waiting]
    this.#waiting.clear()
    return all
  }
}
