import type { DeadLetterSummary } from '../../sdk/model/dead-letter.ts'

/**
 * Events that are worked on later: durable before they are acknowledged, tried again with growing pauses, and kept as
 * dead letters when all was in vain. At least once: a function tells repeats by the request id, which stays the same.
 */
export interface AsyncEvents {
  /** On disk when it resolves. Throws `storage_full`, and `body_too_large` above `CONTAINER_LIMITS.eventBytesMax`. */
  enqueue(event: NewEvent): Promise<void>
  /** Newest first. */
  deadLetters(query: { readonly functionName: string; readonly limit: number }): readonly DeadLetterSummary[]
  deadLetter(id: string): DeadLetter | undefined
  /** Tries it again from the start, as a new event of the same request id. False where there is none. */
  redrive(id: string): Promise<boolean>
  discard(id: string): Promise<boolean>
  /** Waiting, being tried, dead; for status and metrics. */
  counts(): ReadonlyMap<string, { readonly waiting: number; readonly dead: number }>
  close(): Promise<void>
}

export interface NewEvent {
  readonly requestId: string
  readonly functionName: string
  /** Absent: whatever the deployment says at the time of each try. */
  readonly versionId?: string
  readonly payload: Uint8Array
  /** Base64 of JSON, as AWS's clients send it. */
  readonly clientContext?: string
}

export interface DeadLetter extends DeadLetterSummary {
  readonly payload: Uint8Array
  /** What the function answered last, if it did. */
  readonly answer?: string
}
