import type { ImageSummary, PullRequest } from '../../sdk/model/control.ts'
import type { UsageReport } from '../../sdk/model/usage.ts'
import type { NodeStatus } from '../../sdk/model/node-status.ts'
import type { AccessKey, NewAccessKey } from '../../sdk/model/lambda.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { Version } from '../../sdk/model/function.ts'
import type { AsyncEvents } from '../async/async-events.ts'
import type { Invoker } from '../pool/inner-door.ts'
import type { Registry } from '../registry/registry.ts'
import type { SecretBox } from '../registry/secret-box.ts'

/** What the operations need of the node they run on. Implemented by runtime/node. */
export interface ControlPorts {
  readonly registry: Registry
  readonly baseDomain: string
  /** Port clients reach the router on, for the URLs of answers; 0 while the router is down. */
  httpPort(): number
  /**
   * Starts the version on a blank and keeps that instance warm for its first requests.
   * Throws `version_refused` with the function's own message.
   */
  trialStart(version: Version): Promise<{ readonly trialMs: number }>
  /** Resolves when the router has the generation in force; throws `node_unreachable` after 10 s. */
  whenLive(generation: number): Promise<void>
  status(): NodeStatus
  /** Of one function, or of all, from the hour that holds `sinceMs` on; oldest hour first. */
  usage(query: { readonly sinceMs: number; readonly functionName?: string }): Promise<UsageReport>
  /** Prometheus text exposition format, with its content type. */
  metrics(): Promise<{ readonly contentType: string; readonly text: string }>
  /** Absent: this node runs no containers. */
  readonly images?: ImagePort
  readonly logs: {
    /** The last lines, oldest first. */
    read(functionName: string, options: { readonly lines: number }): Promise<readonly LogLine[]>
    /** Calls back for every new line until the returned function is called. */
    follow(functionName: string, onLine: (line: LogLine) => void): () => void
  }
  /** Calls functions by events. Absent: the node calls none. */
  readonly invoker?: Invoker
  /** Absent: the node keeps no events. */
  readonly asyncEvents?: AsyncEvents
  /** Closes secrets of functions. Absent: the node has no key for them. */
  readonly secrets?: Pick<SecretBox, 'seal'>
  /** Absent: the node has no Lambda API. */
  readonly keys?: AccessKeys
}

/** Who may call the Lambda API. Each key may everything. */
export interface AccessKeys {
  /** Oldest first. */
  list(): readonly AccessKey[]
  /** On disk when it resolves. Throws `conflict` above `LAMBDA_API_LIMITS.keysMax`. */
  create(options: { readonly description: string }): Promise<NewAccessKey>
  /** False where there is none. */
  delete(accessKeyId: string): Promise<boolean>
  secretOf(accessKeyId: string): string | undefined
}

/** Images of functions, as runtime/container keeps them. */
export interface ImagePort {
  /** Throws `engine_unavailable`, `build_failed`, `body_too_large`. */
  build(request: ImageReporting & ImageArchive & { readonly dockerfile?: string }): Promise<ImageSummary>
  /** Throws `engine_unavailable`, `image_unusable`, `body_too_large`. */
  load(request: ImageReporting & ImageArchive): Promise<ImageSummary>
  /** Throws `engine_unavailable`, `image_not_found`, `image_unusable`. */
  pull(request: ImageReporting & PullRequest): Promise<ImageSummary>
}

export interface ImageReporting {
  /** What the builder or the registry says. */
  onText(text: string): void
  /** The client is gone. */
  readonly signal: AbortSignal
}

export interface ImageArchive {
  readonly tar: AsyncIterable<Uint8Array>
}
