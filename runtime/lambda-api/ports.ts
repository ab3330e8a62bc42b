import type { ImageSummary } from '../../sdk/model/control.ts'
import type { AsyncEvents } from '../async/async-events.ts'
import type { AccessKeys, ControlPorts } from '../control/ports.ts'

/** What the Lambda API needs of its node, beside what the operations of the control API need. */
export interface LambdaApiPorts extends ControlPorts {
  readonly keys: AccessKeys
  readonly events: Pick<AsyncEvents, 'enqueue'>
  /**
   * Runs a function through the router's inner door, so that all policy applies. Resolves with the head of the answer,
   * also where it is the router's own refusal (JSON, `ErrorBody`). Throws `node_unreachable` where no router answers,
   * `instance_crashed` where the connection broke before a head came.
   */
  invoke(options: InvokeOptions): Promise<IncomingResponse>
  /**
   * The image of that name on the node, else pulled from its registry. May take minutes. Throws `image_not_found`,
   * `image_unusable`, `engine_unavailable`.
   */
  resolveImage(reference: string): Promise<ImageSummary>
}

export interface InvokeOptions {
  readonly functionName: string
  /** Absent: whatever the deployment says. May be any version that `LambdaRecord.versions` names, however old. */
  readonly versionId?: string
  readonly payload: Uint8Array
  readonly mode: 'event' | 'stream'
  /** Base64 of JSON, as it came. */
  readonly clientContext?: string
  readonly invokedArn: string
  /** Of the invocation, and of its log lines. */
  readonly requestId: string
  /** The caller has gone. */
  readonly signal?: AbortSignal
}

export interface IncomingResponse {
  readonly status: number
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  /** Throws where the connection breaks. */
  readonly body: AsyncIterable<Uint8Array>
}
