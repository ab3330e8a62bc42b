import type { DeadLetterSummary, DeadLetterView } from '../../sdk/model/dead-letter.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import { parseFunctionName } from '../../sdk/model/function.ts'
import { ASYNC_LIMITS } from '../../sdk/model/limits.ts'
import { findFunction } from './find-function.ts'
import { eventsOf } from './invoke.ts'
import type { ControlPorts } from './ports.ts'

/** Newest first; also of a function that is not there any more. Throws `invalid_argument`. */
export function listDeadLetters(
  ports: ControlPorts,
  functionName: string,
  limitText: string | undefined,
): { readonly deadLetters: readonly DeadLetterSummary[] } {
  const { deadLettersPerReadDefault, deadLettersPerReadMax } = ASYNC_LIMITS
  const text = limitText ?? String(deadLettersPerReadDefault)
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (limit < 1 || limit > deadLettersPerReadMax) {
    throw new IsolaError(
      'invalid_argument',
      `limit is ${JSON.stringify(text.slice(0, 40))}: give a whole number from 1 to ${deadLettersPerReadMax}`,
    )
  }
  return {
    deadLetters: eventsOf(ports).deadLetters({ functionName: parseFunctionName(functionName), limit }),
  }
}

/** Throws `not_found`. */
export function getDeadLetter(ports: ControlPorts, id: string): DeadLetterView {
  const letter = eventsOf(ports).deadLetter(id)
  if (letter === undefined) throw notFound(id)
  return { ...letter, payload: Buffer.from(letter.payload).toString('utf8') }
}

/** Its event is tried again from the start. Throws `not_found`, `function_not_found`, `storage_full`. */
export async function redriveDeadLetter(ports: ControlPorts, id: string): Promise<{ readonly id: string }> {
  const events = eventsOf(ports)
  const letter = events.deadLetter(id)
  if (letter === undefined) throw notFound(id)
  // It would be a dead letter again at once, under another id.
  findFunction(ports.registry.head, letter.functionName)
  if (!(await events.redrive(id))) throw notFound(id)
  return { id }
}

/** Throws `not_found`. */
export async function discardDeadLetter(ports: ControlPorts, id: string): Promise<{ readonly id: string }> {
  if (!(await eventsOf(ports).discard(id))) throw notFound(id)
  return { id }
}

function notFound(id: string): IsolaError {
  return new IsolaError(
    'not_found',
    `there is no dead letter ${JSON.stringify(id.slice(0, 80))}: it was redriven, discarded or dropped with age, or the id is wrong`,
  )
}
