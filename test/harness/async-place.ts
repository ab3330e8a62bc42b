/** Asynchronous events in a directory of their own, with a test in the place of the functions. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openAsyncEvents, type AsyncEventsOptions } from '../../runtime/async/open-async-events.ts'
import type { AsyncEvents, NewEvent } from '../../runtime/async/async-events.ts'
import type { EventTry } from '../../runtime/async/event-worker.ts'
import type { TryAnswer } from '../../runtime/async/judge-try.ts'
import type { ErrorCode } from '../../sdk/model/errors.ts'
import type { AsyncSettings } from '../../sdk/model/function.ts'

export const DONE: TryAnswer = {
  status: 200,
  error: undefined,
  functionError: undefined,
  retryAfterS: undefined,
  body: 'null',
}
export const failed = (errorMessage: string): TryAnswer => ({
  ...DONE,
  functionError: 'Unhandled',
  body: JSON.stringify({ errorType: 'Error', errorMessage }),
})
export const refusal = (code: ErrorCode, status = 429): TryAnswer => ({
  ...DONE,
  status,
  error: code,
  body: JSON.stringify({ error: { code, message: `it is ${code}`, requestId: 'r' } }),
})

export interface AsyncPlace {
  readonly events: AsyncEvents
  readonly tries: EventTry[]
  readonly said: string[]
  readonly settings: Map<string, Partial<AsyncSettings> | undefined>
  /** Resolves when it holds; looked at again after each try and each word. */
  until(holds: () => boolean): Promise<void>
}

export type Answering = (attempt: EventTry, tries: readonly EventTry[]) => TryAnswer | Promise<TryAnswer>

let directory = ''
const opened: AsyncEvents[] = []

/** Before each test. */
export function makeDirectory(): string {
  directory = mkdtempSync(join(tmpdir(), 'isola-async-'))
  return directory
}

/** After each test. */
export async function closeAll(): Promise<void> {
  for (const events of opened.splice(0)) await events.close()
  rmSync(directory, { recursive: true, force: true })
}

export async function openEvents(
  answer: Answering = () => DONE,
  options: Partial<AsyncEventsOptions> = {},
): Promise<AsyncPlace> {
  const tries: EventTry[] = []
  const said: string[] = []
  const settings: AsyncPlace['settings'] = new Map()
  const events = await openAsyncEvents({
    directory,
    invoke: async (attempt) => {
      tries.push(attempt)
      return answer(attempt, tries)
    },
    settingsOf: (name) => (settings.has(name) ? settings.get(name) : {}),
    onEvent: (line) => said.push(line),
    ...options,
    limits: {
      retryMsMin: 1,
      refusedMsMin: 1,
      refusedMsMax: 5,
      repairMs: 5,
      closeGraceMs: 100,
      ...options.limits,
    },
  })
  opened.push(events)
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2))
  }
  return { events, tries, said, settings, until }
}

let counter = 0
export function event(fields: Partial<NewEvent> = {}): NewEvent {
  counter += 1
  return { requestId: `r-${counter}`, functionName: 'shop', payload: Buffer.from('{"a":1}'), ...fields }
}

export const waiting = (events: AsyncEvents, name = 'shop'): number => events.counts().get(name)?.waiting ?? 0
export const dead = (events: AsyncEvents, name = 'shop'): number => events.counts().get(name)?.dead ?? 0
export const lettersOf = (events: AsyncEvents, functionName = 'shop') =>
  events.deadLetters({ functionName, limit: 100 })
