/**
 * A process that keeps asynchronous events in a directory and works on them, to be killed at any moment:
 *
 *   async-child <directory> <first>
 *
 * It enqueues events `<first>`, `<first> + 1`, … for ever and writes to stdout, at once and whole: `ack N` when an event was
 * acknowledged, `run N` when one is being worked on. Every third is refused first, every fifth fails until it is dead.
 */
import { writeSync } from 'node:fs'
import { openAsyncEvents } from '../../runtime/async/open-async-events.ts'
import type { TryAnswer } from '../../runtime/async/judge-try.ts'

const [directory = '', first = '0'] = process.argv.slice(2)
const say = (line: string): void => void writeSync(1, `${line}\n`)
const answer = (fields: Partial<TryAnswer>): TryAnswer => ({
  status: 200,
  error: undefined,
  functionError: undefined,
  retryAfterS: undefined,
  body: 'null',
  ...fields,
})

const refusedOnce = new Set<number>()
const events = await openAsyncEvents({
  directory,
  async invoke({ requestId, payload }) {
    const number = Number(Buffer.from(payload).toString())
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 3))
    if (number % 3 === 0 && !refusedOnce.has(number)) {
      refusedOnce.add(number)
      return answer({ status: 429, error: 'queue_full' })
    }
    say(`run ${requestId}`)
    return number % 5 === 0 ? answer({ functionError: 'Unhandled' }) : answer({})
  },
  settingsOf: () => ({}),
  onEvent: (line) => console.error(line),
  limits: { retryMsMin: 1, refusedMsMin: 1, refusedMsMax: 2 },
})
say('open')
for (let number = Number(first); ; number += 1) {
  const functionName = `f${number % 4}`
  void events
    .enqueue({ requestId: String(number), functionName, payload: Buffer.from(String(number)) })
    .then(() => say(`ack ${number}`))
  // Several share a commit, and some wait for the next.
  if (number % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 1))
}
