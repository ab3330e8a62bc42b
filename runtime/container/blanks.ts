/**
 * What waits to be claimed: runtimes without a function, and sandboxes without a container. As many of each class as
 * are wanted, made one after another, so that a start never finds the engine busy with more than one of them. What
 * cannot be made, because the engine is away or a base image cannot be built, is tried again in growing intervals:
 * a start says what is wrong to whoever asks for one.
 */
import { CONTAINER_LIMITS, INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

export interface Blank {
  readonly id: string
  /** Of the processes on the host. */
  readonly pid: number
  /** Settles when it has ended by itself. */
  readonly ended: Promise<unknown>
  usage(): { readonly memoryBytes: number; readonly cpuMs: number }
  /** Removes it, whatever state it is in. Never rejects. */
  discard(): Promise<void>
}

export interface Blanks<Made extends Blank> {
  waiting(): readonly { readonly blankClass: string; readonly blank: Made }[]
  keep(blankClass: string, count: number): void
  /** The oldest of those that wait. */
  claim(blankClass: string): Made | undefined
  /** Tries at once what failed before. */
  retry(): void
  close(): void
}

export interface BlanksOptions<Made extends Blank> {
  make(blankClass: string): Promise<Made>
  /** Told of everything that must be over before the driver is closed. */
  untilCleared(ending: Promise<unknown>): void
}

interface Stock<Made> {
  wanted: number
  readonly waiting: Set<Made>
  /** What fails for one class holds no other back. */
  notBeforeMs: number
  retryMs: number
}

export function createBlanks<Made extends Blank>(options: BlanksOptions<Made>): Blanks<Made> {
  const { make, untilCleared } = options
  const { blanksMax, blankSpacingMs, crashBackoffMsMax, blankRetryMs } = INSTANCE_LIMITS
  const { blankAfterStartMs } = CONTAINER_LIMITS
  const stockByClass = new Map<string, Stock<Made>>()
  let timer: NodeJS.Timeout | undefined
  let making = false
  let closed = false

  /** Of the classes that have too few, the one that has waited longest. */
  const lacking = (): readonly [string, Stock<Made>] | undefined => {
    let first: readonly [string, Stock<Made>] | undefined
    for (const entry of stockByClass) {
      const [, stock] = entry
      if (stock.waiting.size >= stock.wanted) continue
      if (first === undefined || stock.notBeforeMs < first[1].notBeforeMs) first = entry
    }
    return first
  }
  const schedule = (delayMs: number): void => {
    const next = lacking()
    if (closed || making || next === undefined) return
    clearTimeout(timer)
    const untilMs = next[1].notBeforeMs - performance.now()
    timer = setTimeout(() => untilCleared(makeOne()), Math.max(delayMs, untilMs))
  }
  const backOff = (stock: Stock<Made>): void => {
    stock.notBeforeMs = performance.now() + stock.retryMs
    stock.retryMs = Math.min(stock.retryMs * 2, crashBackoffMsMax)
  }
  const makeOne = async (): Promise<void> => {
    const next = lacking()
    if (next === undefined || making) return
    const [blankClass, stock] = next
    making = true
    try {
      const blank = await make(blankClass)
      stock.notBeforeMs = performance.now()
      if (closed || stock.waiting.size >= stock.wanted) await blank.discard()
      else waitForClaim(stock, blank)
    } catch {
      backOff(stock)
    }
    making = false
    schedule(blankSpacingMs)
  }
  const waitForClaim = (stock: Stock<Made>, blank: Made): void => {
    stock.waiting.add(blank)
    void blank.ended.then(() => {
      if (!stock.waiting.delete(blank)) return
      untilCleared(blank.discard())
      // One that ends by itself may do so every time.
      backOff(stock)
      schedule(0)
    })
  }
  const giveBack = ({ waiting }: Stock<Made>, most: number): void => {
    for (const blank of waiting) {
      if (waiting.size <= most) break
      waiting.delete(blank)
      untilCleared(blank.discard())
    }
  }
  return {
    waiting: () =>
      [...stockByClass].flatMap(([blankClass, { waiting }]) =>
        [...waiting].map((blank) => ({ blankClass, blank })),
      ),
    keep(blankClass, count) {
      if (closed) return
      let stock = stockByClass.get(blankClass)
      if (stock === undefined) {
        if (count <= 0) return
        stock = { wanted: 0, waiting: new Set(), notBeforeMs: 0, retryMs: blankRetryMs }
        stockByClass.set(blankClass, stock)
      }
      stock.wanted = Math.min(Math.max(0, count), blanksMax)
      giveBack(stock, stock.wanted)
      if (stock.wanted === 0) stockByClass.delete(blankClass)
      schedule(0)
    },
    claim(blankClass) {
      const stock = stockByClass.get(blankClass)
      const [oldest] = stock?.waiting ?? []
      if (stock === undefined || oldest === undefined) return undefined
      stock.waiting.delete(oldest)
      stock.retryMs = blankRetryMs
      schedule(blankAfterStartMs)
      return oldest
    },
    retry() {
      for (const stock of stockByClass.values()) {
        stock.notBeforeMs = 0
        stock.retryMs = blankRetryMs
      }
      schedule(0)
    },
    close() {
      closed = true
      clearTimeout(timer)
      for (const stock of stockByClass.values()) giveBack(stock, 0)
      stockByClass.clear()
    },
  }
}
