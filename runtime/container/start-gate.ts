/**
 * How many containers the engine makes at a time. Ten at once on two cores take two seconds, each of them. The refill of
 * blanks goes when no start is under way: beside one it costs that start half as much again, and somebody waits for it.
 * Where starts never end, a refill waits for a while and then goes all the same: blanks are what ends such a surge.
 */
export interface StartGate {
  run<Result>(options: { readonly urgent: boolean }, work: () => Promise<Result>): Promise<Result>
}

const REFILL_WAIT_MS = 1_000

export function createStartGate(
  atOnceMax: number,
  { refillWaitMs = REFILL_WAIT_MS }: { readonly refillWaitMs?: number } = {},
): StartGate {
  const urgentWaiting: (() => void)[] = []
  const refillsWaiting: (() => void)[] = []
  let running = 0
  let urgentRunning = 0

  const admit = (): void => {
    for (;;) {
      if (running >= atOnceMax) return
      const next = urgentWaiting.shift() ?? (urgentRunning === 0 ? refillsWaiting.shift() : undefined)
      if (next === undefined) return
      next()
    }
  }
  const enter = (urgent: boolean): Promise<void> =>
    new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined
      const go = (): void => {
        clearTimeout(timer)
        running += 1
        if (urgent) urgentRunning += 1
        resolve()
      }
      if (urgent) urgentWaiting.push(go)
      else {
        refillsWaiting.push(go)
        timer = setTimeout(() => {
          refillsWaiting.splice(refillsWaiting.indexOf(go), 1)
          urgentWaiting.push(go)
          admit()
        }, refillWaitMs)
      }
      admit()
    })
  return {
    async run({ urgent }, work) {
      await enter(urgent)
      try {
        return await work()
      } finally {
        running -= 1
        if (urgent) urgentRunning -= 1
        admit()
      }
    },
  }
}
