import { readFileSync } from 'node:fs'

/**
 * Ctrl-C once: end well. Again: end now. One press can arrive several times (the terminal signals the whole process
 * group, and npm and launchers pass it on as well), so what follows within `REPEAT_MS` counts as the same press.
 */
const REPEAT_MS = 1_000
const PARENT_CHECK_MS = 250

export interface StopSignalOptions {
  /**
   * npm runs programs below a shell and passes signals on to that shell, which dies of them and tells nobody. So below
   * npm the end of the parent is a signal as well; elsewhere a parent may end as it likes, as under `nohup`.
   */
  readonly endsWithParent: boolean
}

export function watchStopSignals({ endsWithParent }: StopSignalOptions): {
  readonly stop: AbortSignal
  readonly stopNow: AbortSignal
} {
  const stop = new AbortController()
  const stopNow = new AbortController()
  let firstAtMs: number | undefined
  const onSignal = (): void => {
    const nowMs = performance.now()
    firstAtMs ??= nowMs
    if (!stop.signal.aborted) stop.abort()
    else if (nowMs - firstAtMs > REPEAT_MS) stopNow.abort()
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  // A closed terminal ends a node like Ctrl-C does, unless it was started under nohup, which shows as an ignored signal.
  if (!isIgnored(1)) process.on('SIGHUP', onSignal)
  if (endsWithParent) onParentEnd(() => stop.abort())
  return { stop: stop.signal, stopNow: stopNow.signal }
}

function onParentEnd(onEnd: () => void): void {
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    onEnd()
  }, PARENT_CHECK_MS).unref()
}

function isIgnored(signalNumber: number): boolean {
  const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return mask !== undefined && (BigInt(`0x${mask}`) & (1n << BigInt(signalNumber - 1))) !== 0n
}
