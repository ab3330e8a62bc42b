/** An event of an asynchronous invocation that could not be worked on, as the control API shows it. */
export interface DeadLetterSummary {
  readonly id: string
  /** The same at each try: by it the function's log lines are found. */
  readonly requestId: string
  readonly functionName: string
  /** Both ISO 8601, UTC. */
  readonly queuedAt: string
  readonly diedAt: string
  /** That were made and failed. */
  readonly tries: number
  /** Of the last try, or that it grew too old. */
  readonly reason: string
}

export interface DeadLetterView extends DeadLetterSummary {
  /** The event: JSON as it was sent. */
  readonly payload: string
  /** The beginning of what the function answered last, if it did. */
  readonly answer?: string
}
