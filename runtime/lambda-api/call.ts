import type { ChangeProgress } from './change-progress.ts'
import type { LambdaApiPorts } from './ports.ts'

/** One call of an operation, after its signature was found right. */
export interface Call {
  readonly ports: LambdaApiPorts
  readonly progress: ChangeProgress
  readonly requestId: string
  readonly accessKeyId: string
  /** Of the credential's scope: isola has one region, and it has every name. */
  readonly region: string
  readonly url: URL
  /** What stands in the path, decoded. */
  readonly parameters: Readonly<Record<string, string>>
  readonly headers: Headers
  readonly body: Uint8Array
  readonly signal: AbortSignal
  /** As AWS names it: `x86_64`, `arm64`. */
  readonly architecture: string
}

export type Operation = (call: Call) => Promise<Response>

/** Who did it, where changes are recorded. */
export function actorOf(call: Call): string {
  return `lambda-api ${call.accessKeyId}`
}

export function noContent(): Response {
  return new Response(null, { status: 204 })
}
