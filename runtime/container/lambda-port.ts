import type { EnvironmentEnd, LambdaEnvironment, LambdaFunction } from '../lambda/wire.ts'

/** The Lambda process as the driver uses it. What is said here is said again to a process that comes back. */
export interface LambdaPort {
  /**
   * Those that an earlier agent left, all in one call and before any other: whatever is not among them is closed. Resolves
   * with the ids of those that are ready.
   */
  resume(environments: readonly LambdaEnvironment[]): Promise<ReadonlySet<string>>
  /** Resolves when both doors are open. Throws `internal` where they cannot be. */
  open(environment: LambdaEnvironment): Promise<void>
  /** Resolves when the runtime of a blank waits for its function. */
  whenWaiting(id: string): Promise<void>
  /** Gives a blank its function; it is ready when `whenReady` resolves. */
  claim(id: string, fn: LambdaFunction): void
  /** Resolves at the first `next`. Throws `start_failed` with the function's own words. */
  whenReady(id: string): Promise<{ readonly initMs: number }>
  ended(id: string, end: EnvironmentEnd): void
  close(id: string): void
  /** Called for each invocation that took too long, until `close`: the container must go. */
  onTimeout(listener: (id: string, message: string) => void): void
}
