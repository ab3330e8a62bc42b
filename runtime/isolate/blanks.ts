/**
 * The blanks that wait: as many as are wanted, made one after another. A start that finds none makes its own at once,
 * so a burst of starts goes side by side. (Holding new blanks back until such a burst is over was tried: eight starts
 * took 144 ms with it and 146 to 175 without, which is not worth a rule.)
 */
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { Blank } from './blank.ts'

export interface Blanks {
  readonly waiting: ReadonlySet<Blank>
  keep(count: number): void
  /** One that waits, else a new one. Throws where none can be made. */
  claim(): Blank
  close(): void
}

export interface BlanksOptions {
  /** Throws where none can be made. */
  make(): Blank
  /** Told of everything that must be over before the driver is closed. */
  untilCleared(ending: Promise<unknown>): void
}

export function createBlanks({ make, untilCleared }: BlanksOptions): Blanks {
  const waiting = new Set<Blank>()
  let wanted = 0
  let refill: NodeJS.Timeout | undefined
  let closed = false

  const fill = (delayMs: number): void => {
    if (closed || refill !== undefined || waiting.size >= wanted) return
    refill = setTimeout(() => {
      refill = undefined
      try {
        if (waiting.size < wanted) waitForClaim(make())
        fill(INSTANCE_LIMITS.blankSpacingMs)
      } catch {
        // A start says what is wrong, to whoever asks for one; here there is only trying again.
        fill(INSTANCE_LIMITS.blankRetryMs)
      }
    }, delayMs)
  }
  const waitForClaim = (blank: Blank): void => {
    waiting.add(blank)
    void blank.process.exited.then(() => {
      // Still unclaimed: it ended by itself, or with us.
      if (!waiting.delete(blank)) return
      untilCleared(blank.home.clear())
      fill(INSTANCE_LIMITS.blankRetryMs)
    })
  }
  const giveBack = (most: number): void => {
    for (const blank of waiting) {
      if (waiting.size <= most) break
      waiting.delete(blank)
      untilCleared(discard(blank))
    }
  }
  return {
    waiting,
    keep(count) {
      wanted = Math.min(Math.max(0, count), INSTANCE_LIMITS.blanksMax)
      giveBack(wanted)
      fill(0)
    },
    claim() {
      // The oldest: it has had the most time to load.
      const [oldest] = waiting
      if (oldest !== undefined) waiting.delete(oldest)
      const blank = oldest ?? make()
      fill(INSTANCE_LIMITS.blankAfterStartMs)
      return blank
    },
    close() {
      closed = true
      clearTimeout(refill)
      giveBack(0)
    },
  }
}

async function discard(blank: Blank): Promise<void> {
  blank.process.signal('SIGKILL')
  await blank.process.exited
  await blank.home.clear()
}
