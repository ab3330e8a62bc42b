/**
 * What the engine tells as long as somebody listens: events, and the output of containers. Both are taken up again
 * where they broke off. The engine's `since` includes its own moment, and JavaScript's numbers round its nanoseconds, so
 * both ask for a little more than is missing and leave out what was there.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import type { ContainerEvent, OutputOptions, WatchOptions } from './engine.ts'
import { engineUnavailable, unexpectedAnswer } from './engine-error.ts'
import type { EngineHttp } from './engine-http.ts'
import { createOutputReader, readJsonLines, type OutputEntry } from './engine-lines.ts'

export function watchContainers(http: EngineHttp, options: WatchOptions): { stop(): void } {
  const stopping = new AbortController()
  void followEvents(http, options, stopping.signal)
  return { stop: () => stopping.abort() }
}

const EVENTS: readonly string[] = ['start', 'die', 'oom', 'destroy']
/** The engine keeps 256 events for those who come back. */
const SEEN_MAX = 512

interface RawEvent {
  readonly Action?: string
  readonly Actor?: { readonly ID?: string; readonly Attributes?: Readonly<Record<string, string>> }
  readonly timeNano?: number
}

async function followEvents(http: EngineHttp, options: WatchOptions, signal: AbortSignal): Promise<void> {
  const seen = new Set<string>()
  const waits = createWaits(signal)
  let sinceMs = Date.now()
  const label = Object.entries(options.labels).map(([key, value]) => `${key}=${value}`)
  const filters = JSON.stringify({ type: ['container'], event: EVENTS, label })
  const onRaw = (raw: RawEvent): void => {
    const event = eventOf(raw)
    if (event === undefined) return
    const key = `${raw.timeNano}/${event.action}/${event.id}`
    if (seen.has(key)) return
    seen.add(key)
    if (seen.size > SEEN_MAX) seen.delete(seen.values().next().value ?? '')
    sinceMs = Math.max(sinceMs, event.atMs)
    options.onEvent(event)
  }
  while (!signal.aborted) {
    try {
      const stream = await http.stream(
        { method: 'GET', path: '/events', query: { since: secondsOf(sinceMs - 1), filters }, signal },
        (answer) => unexpectedAnswer('following events', answer),
      )
      waits.reset()
      options.onConnect()
      for await (const raw of readJsonLines(stream)) {
        if (signal.aborted) return
        onRaw(raw)
      }
      throw engineUnavailable({ socketPath: http.socketPath, problem: 'it closed the stream of events' })
    } catch (error) {
      if (signal.aborted) return
      options.onDisconnect((error as Error).message)
    }
    await waits.next()
  }
}

/** What the engine mixes with the container's labels. */
const ATTRIBUTES_OF_ENGINE: readonly string[] = ['image', 'name', 'exitCode', 'signal', 'execDuration']

function eventOf({ Action: action, Actor: actor, timeNano }: RawEvent): ContainerEvent | undefined {
  if (action === undefined || actor?.ID === undefined || !EVENTS.includes(action)) return undefined
  const attributes = actor.Attributes ?? {}
  const labels = Object.entries(attributes).filter(([key]) => !ATTRIBUTES_OF_ENGINE.includes(key))
  const exitCode = Number(attributes['exitCode'])
  return {
    action: action as ContainerEvent['action'],
    id: actor.ID,
    labels: Object.fromEntries(labels),
    ...(attributes['exitCode'] !== undefined && Number.isInteger(exitCode) && { exitCode }),
    atMs: (timeNano ?? 0) / 1e6,
  }
}

export function readOutput(
  http: EngineHttp,
  id: string,
  options: OutputOptions,
): { stop(): void; readonly ended: Promise<void> } {
  const stopping = new AbortController()
  return { stop: () => stopping.abort(), ended: followOutput(http, id, options, stopping.signal) }
}

async function followOutput(
  http: EngineHttp,
  id: string,
  options: OutputOptions,
  signal: AbortSignal,
): Promise<void> {
  const waits = createWaits(signal)
  const path = `/containers/${id}`
  let since = secondsOf(options.sinceMs)
  const lastTimes: Record<OutputEntry['stream'], string> = { stdout: '', stderr: '' }
  while (!signal.aborted) {
    // Only what comes again is left out, at the beginning: the clock may go back at any time.
    const known = { ...lastTimes }
    const reader = createOutputReader(({ stream, text, time }) => {
      if (signal.aborted) return
      lastTimes[stream] = padTime(time)
      if (known[stream] !== '' && lastTimes[stream] <= known[stream]) return
      known[stream] = ''
      const atMs = Date.parse(time) || Date.now()
      since = secondsOf(atMs - 1)
      options.onLine({ stream, text, atMs })
    })
    try {
      const stream = await http.stream(
        {
          method: 'GET',
          path: `${path}/logs`,
          query: { follow: '1', stdout: '1', stderr: '1', timestamps: '1', since },
          signal,
        },
        (answer) => (answer.status === 404 ? new GoneError() : unexpectedAnswer(`reading ${path}`, answer)),
      )
      waits.reset()
      for await (const chunk of stream as AsyncIterable<Buffer>) reader.push(chunk)
      reader.end()
      // The stream of a container that runs ends when the engine does.
      const { status, json } = await http.call({ method: 'GET', path: `${path}/json` })
      if (status === 404 || !isRunning(json)) return
    } catch (error) {
      if (signal.aborted || error instanceof GoneError) return
    }
    await waits.next()
  }
}

class GoneError extends Error {}

function isRunning(inspection: unknown): boolean {
  return (inspection as { readonly State?: { readonly Running?: boolean } }).State?.Running === true
}

/** To compare times as text, digit by digit: the engine leaves zeros at their end out. */
function padTime(time: string): string {
  const [seconds = '', fraction = ''] = time.replace(/Z$/, '').split('.')
  return `${seconds}.${fraction.padEnd(9, '0')}`
}

function secondsOf(ms: number): string {
  return (Math.max(ms, 0) / 1000).toFixed(6)
}

/** Longer after each failure, short again after a success. Ends at once when the signal does. */
function createWaits(signal: AbortSignal): { next(): Promise<void>; reset(): void } {
  let waitMs: number = ENGINE_LIMITS.reconnectMsMin
  return {
    async next() {
      const ms = waitMs
      waitMs = Math.min(waitMs * 2, ENGINE_LIMITS.reconnectMsMax)
      try {
        await delay(ms, undefined, { signal, ref: false })
      } catch {
        // Stopped.
      }
    },
    reset() {
      waitMs = ENGINE_LIMITS.reconnectMsMin
    },
  }
}
