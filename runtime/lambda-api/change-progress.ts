/**
 * Changes of functions that are being made. One at a time of each function, as AWS has it. Most are done in a moment, and
 * their call answers with what came of them, so that code that does not start is refused to whoever sent it. One that
 * takes longer (an image on its way from a registry) goes on after the answer, which says `Pending` or `InProgress`; what
 * becomes of it is then told to who asks for the function. An agent that restarts forgets it: a function that was being
 * created is not there, one that was being updated is as it was.
 */
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { ApiError, knownApiError } from './api-error.ts'
import type { FunctionConfiguration } from './function-configuration.ts'

export interface Change {
  readonly type: 'create' | 'update'
  /** What will be, for who asks meanwhile. */
  readonly configuration: FunctionConfiguration
  /** Set once it has failed after its answer. */
  readonly failure?: string
}

export interface ChangeProgress {
  /**
   * Resolves when the work is done, or goes on in the background. Throws what the work throws while somebody waits, and
   * `ResourceConflictException` where another change of the function is being made.
   */
  run(options: {
    readonly functionName: string
    readonly arn: string
    readonly change: Change
    readonly work: () => Promise<void>
  }): Promise<'done' | 'pending'>
  /** A change that is being made after its answer, or failed then. */
  changeOf(functionName: string): Change | undefined
  /** All that is known of a function that is deleted. */
  forget(functionName: string): void
  /** Settles when none is being made. */
  idle(): Promise<void>
}

export function createChangeProgress(options: {
  readonly waitMs: number
  readonly onFault: (error: unknown, functionName: string) => void
}): ChangeProgress {
  const running = new Map<string, Promise<void>>()
  const told = new Map<string, Change>()
  return {
    async run({ functionName, arn, change, work }) {
      if (running.has(functionName)) {
        throw new ApiError(
          'ResourceConflictException',
          `The operation cannot be performed at this time. An update is in progress for resource: ${arn}`,
        )
      }
      told.delete(functionName)
      const done = work()
      const end = (): void => void running.delete(functionName)
      running.set(functionName, done.then(end, end))
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<'pending'>((resolve) => {
        timer = setTimeout(() => resolve('pending'), options.waitMs)
      })
      try {
        const outcome = await Promise.race([done.then(() => 'done' as const), late])
        if (outcome === 'done') told.delete(functionName)
        else {
          told.set(functionName, change)
          void done.then(
            () => told.delete(functionName),
            (error: unknown) => {
              const known = knownApiError(error)
              if (known === undefined) options.onFault(error, functionName)
              remember(told, functionName, {
                ...change,
                failure: known?.message ?? 'something failed inside the node: look into its log',
              })
            },
          )
        }
        return outcome
      } finally {
        clearTimeout(timer)
      }
    },
    changeOf: (functionName) => told.get(functionName),
    forget: (functionName) => void told.delete(functionName),
    async idle() {
      while (running.size > 0) await Promise.all(running.values())
    },
  }
}

function remember(told: Map<string, Change>, functionName: string, failed: Change): void {
  told.delete(functionName)
  told.set(functionName, failed)
  for (const [name, { failure }] of told) {
    if (told.size <= LAMBDA_API_LIMITS.failedChangesMax) return
    if (failure !== undefined) told.delete(name)
  }
}
