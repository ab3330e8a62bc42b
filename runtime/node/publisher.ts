/**
 * Heads on their way to the router: a snapshot goes out when the static files of its versions are on the disk, and
 * snapshots go out in the order of their heads. Most heads have nothing to wait for and go out at once; while one waits,
 * only the newest behind it matters. What could not be had does not hold back the rest: it is tried again, and until
 * then the router refuses by name what is not there.
 */
import type { Head } from '../../sdk/model/function.ts'
import { ASSET_LIMITS } from '../../sdk/model/limits.ts'
import type { AssetFiles } from './asset-files.ts'

export interface PublisherOptions {
  readonly assets: Pick<AssetFiles, 'isReady' | 'ready'>
  publish(head: Head): void
  /** @default ASSET_LIMITS.retryMs */
  readonly retryMs?: number
}

export class Publisher {
  readonly #options: PublisherOptions
  #newest: Head | undefined
  #next: Head | undefined
  #turn: Promise<void> | undefined
  #retry: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: PublisherOptions) {
    this.#options = options
  }

  /** Resolves when this head, or a newer one, is out. */
  async put(head: Head): Promise<void> {
    clearTimeout(this.#retry)
    this.#newest = head
    if (this.#turn === undefined && this.#options.assets.isReady(head)) {
      this.#options.publish(head)
      return
    }
    this.#next = head
    this.#turn ??= this.#work().finally(() => (this.#turn = undefined))
    await this.#turn
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#retry)
  }

  async #work(): Promise<void> {
    for (let head = this.#next; head !== undefined && !this.#closed; head = this.#next) {
      this.#next = undefined
      const isComplete = await this.#options.assets.ready(head)
      this.#options.publish(head)
      if (!isComplete && this.#next === undefined) this.#retryLater(head)
    }
  }

  #retryLater(head: Head): void {
    const { assets, publish, retryMs = ASSET_LIMITS.retryMs } = this.#options
    this.#retry = setTimeout(() => {
      void assets.ready(head).then((isComplete) => {
        if (this.#closed || this.#newest !== head) return
        if (isComplete) publish(head)
        else this.#retryLater(head)
      })
    }, retryMs)
  }
}
