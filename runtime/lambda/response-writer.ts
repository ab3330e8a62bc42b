import type { ServerResponse } from 'node:http'

/** Writes to a caller that may be slow, or gone: one that is gone takes everything at once. */
export class ResponseWriter {
  isBlocked = false
  readonly #response: ServerResponse

  constructor(response: ServerResponse) {
    this.#response = response
  }

  /** False: `onDrain`'s listener is called when more may come. */
  write(parts: readonly Buffer[]): boolean {
    const response = this.#response
    if (response.destroyed) return true
    // Not corked: what a cork holds back may need a drain that never comes.
    this.isBlocked = !response.write(parts.length === 1 ? parts[0]! : Buffer.concat(parts))
    return !this.isBlocked
  }

  onDrain(listener: () => void): void {
    const response = this.#response
    const goOn = (): void => {
      response.off('drain', goOn)
      response.off('close', goOn)
      this.isBlocked = false
      listener()
    }
    response.once('drain', goOn)
    response.once('close', goOn)
    if (response.destroyed) goOn()
  }

  end(last?: Buffer): void {
    if (this.#response.destroyed) return
    if (last === undefined) this.#response.end()
    else this.#response.end(last)
  }
}
