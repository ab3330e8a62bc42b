import { LogBatch } from './log-batch.ts'
import { Doors } from './doors.ts'
import { Environment } from './environment.ts'
import type { AgentToLambda, LambdaEnvironment, LambdaToAgent } from './wire.ts'

export interface LambdaProcessOptions {
  /** To the agent. False where there is none. */
  readonly send: (message: LambdaToAgent) => boolean
  /** For faults that belong to no environment. */
  readonly onProblem: (message: string) => void
}

interface Held {
  readonly place: LambdaEnvironment
  readonly environment: Environment
  readonly doors: Doors
  /** Settles when both doors are open, or neither. */
  readonly opened: Promise<void>
}

/** All environments, as the agent last said. What happens to one of them happens to no other. */
export class LambdaProcess {
  readonly #options: LambdaProcessOptions
  readonly #heldById = new Map<string, Held>()
  readonly #log: LogBatch

  constructor(options: LambdaProcessOptions) {
    this.#options = options
    this.#log = new LogBatch((lines) => options.send({ type: 'log', lines }))
  }

  handle(message: Exclude<AgentToLambda, { type: 'shutdown' }>): void {
    switch (message.type) {
      case 'environments': {
        const wanted = new Set(message.environments.map(({ id }) => id))
        for (const id of this.#heldById.keys()) if (!wanted.has(id)) this.#close(id)
        for (const place of message.environments) this.#open(place)
        break
      }
      case 'open':
        this.#open(message.environment)
        break
      case 'claim': {
        const held = this.#heldById.get(message.id)
        if (held !== undefined) held.environment.claim(message.function)
        else {
          this.#options.send({
            type: 'init-failed',
            id: message.id,
            errorType: 'Sandbox.Failure',
            message: `there is no environment "${message.id}" to be claimed: open it first`,
          })
        }
        break
      }
      case 'ending':
        this.#heldById.get(message.id)?.environment.ending()
        break
      case 'ended':
        this.#heldById.get(message.id)?.environment.ended(message.end)
        break
      case 'close':
        this.#close(message.id)
    }
  }

  /** To an agent that has just connected. */
  tellAll(): void {
    for (const { environment } of this.#heldById.values()) environment.tell()
    this.#log.flush()
  }

  close(): void {
    for (const id of this.#heldById.keys()) this.#close(id)
    this.#log.flush()
  }

  /** One that is there already stays as it is. */
  #open(place: LambdaEnvironment): void {
    const { id } = place
    const before = this.#heldById.get(id)
    if (before !== undefined && isSamePlace(before.place, place)) {
      before.opened.then(
        () => this.#sayOpened(before),
        // It has been said.
        () => undefined,
      )
      if (place.function !== undefined) before.environment.claim(place.function)
      return
    }
    this.#close(id)
    const environment: Environment = new Environment({
      id,
      send: (message) => this.#sendIfHeld(held, message),
      log: (line) => this.#log.add(line),
      onOver: () => doors.retire(),
    })
    const doors = new Doors(place, environment)
    const held: Held = { place, environment, doors, opened: doors.open() }
    this.#heldById.set(id, held)
    if (place.function !== undefined) environment.claim(place.function)
    held.opened.then(
      () => this.#sayOpened(held),
      (error: unknown) => {
        const message = error instanceof Error ? error.message : String(error)
        this.#options.onProblem(`environment ${id} could not be opened: ${message}`)
        this.#sendIfHeld(held, { type: 'open-failed', id, message })
        if (this.#heldById.get(id) === held) this.#close(id)
      },
    )
  }

  /** With all that is known: an agent may have forgotten what it heard before it named its environments. */
  #sayOpened(held: Held): void {
    this.#sendIfHeld(held, { type: 'opened', id: held.place.id })
    if (this.#heldById.get(held.place.id) === held) held.environment.tell()
  }

  #close(id: string): void {
    const held = this.#heldById.get(id)
    if (held === undefined) return
    this.#heldById.delete(id)
    held.environment.close()
    held.doors.close()
  }

  /** What an environment that is closed has to say is nobody's business any more. */
  #sendIfHeld(held: Held, message: LambdaToAgent): void {
    if (this.#heldById.get(held.place.id) === held) this.#options.send(message)
  }
}

function isSamePlace(left: LambdaEnvironment, right: LambdaEnvironment): boolean {
  return (
    left.httpSocket === right.httpSocket &&
    JSON.stringify(left.runtimeApi) === JSON.stringify(right.runtimeApi)
  )
}
