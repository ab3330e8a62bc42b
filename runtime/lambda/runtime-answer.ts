/** Answers to runtimes and extensions. */
import type { ServerResponse } from 'node:http'

type Headers = Readonly<Record<string, string>>

export function answerJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers?: Headers,
): void {
  if (response.destroyed || response.headersSent) return
  const body = Buffer.from(JSON.stringify(value))
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': body.length,
    ...headers,
  })
  response.end(body)
}

export function accept(response: ServerResponse): void {
  answerJson(response, 202, { status: 'OK' })
}

export interface RuntimeRefusal {
  readonly status: number
  readonly errorType: string
  readonly errorMessage: string
}

export function refuse(response: ServerResponse, { status, errorType, errorMessage }: RuntimeRefusal): void {
  answerJson(response, status, { errorType, errorMessage })
}

export function refuseState(response: ServerResponse, errorMessage: string): void {
  refuse(response, { status: 403, errorType: 'InvalidStateTransition', errorMessage })
}
