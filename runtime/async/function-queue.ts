/** What the worker knows of one function's events without asking the disk. */
export interface FunctionQueue {
  readonly functionName: string
  /** Those being tried are among them. */
  waiting: number
  /** Of those; with the ones that are about to be on disk. */
  bytes: number
  dead: number
  deadBytes: number
  /** Row ids of those being tried. */
  readonly tried: Set<number>
  /** Of the next that is not being tried; `undefined`: not looked up. */
  dueMs: number | undefined
  /** The router takes none of the function's for now. */
  pausedUntilMs: number
  /** In a row. */
  refusals: number
  lastRefusal: string
}

export function makeFunctionQueue(functionName: string): FunctionQueue {
  return {
    functionName,
    waiting: 0,
    bytes: 0,
    dead: 0,
    deadBytes: 0,
    tried: new Set(),
    dueMs: undefined,
    pausedUntilMs: 0,
    refusals: 0,
    lastRefusal: '',
  }
}
