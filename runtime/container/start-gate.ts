/**
 * How many containers the engine makes at a time. Ten at once on two cores take two seconds, each of them; a start that
 * somebody waits for goes before the refill of blanks, however long that has waited.
 */
export interface StartGate {
  run<Result>(options: { readonly urgent: boolean }, work: () => Promise<Result>): Promise<Result>
}

export function createStartGate(atOnceMax: number): StartGate {
  const urgentWaiting: (() => void)[] = []
  const otherWaiting: (() => void)[] = []
  let running = 0

  const enter = async (urgent: boolean): Promise<void> => {
    // Its place was handed over by whoever left: `running` counts it already.
    if (running >= atOnceMax) {
      await new Promise<void>((resolve) => (urgent ? urgentWaiting : otherWaiting).push(resolve))
    } else running += 1
  }
  const leave = (): void => {
    const next = urgentWaiting.shift() ?? otherWaiting.shift()
    if (next === undefined) running -= 1
    else next()
  }
  return {
    async run({ urgent }, work) {
      await enter(urgent)
      try {
        return await work()
      } finally {
        leave()
      }
    },
  }
}
