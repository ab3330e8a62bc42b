import type { ContainerRuntime } from '../../sdk/model/function.ts'
import type { LogSink } from '../pool/driver.ts'
import type { CodeStore } from './code-store.ts'
import type { ContainerIds } from './container-ids.ts'
import type { LambdaPort } from './lambda-port.ts'
import type { ContainerTools } from './running-container.ts'
import type { SandboxMaker } from './sandbox.ts'
import type { StartGate } from './start-gate.ts'

/** The base image of each runtime, made at first need. */
export interface RuntimeImages {
  runtimeImage(runtime: ContainerRuntime): Promise<{ readonly imageId: string }>
}

/** What the steps of a container's life are taken with. */
export interface ContainerParts {
  readonly tools: ContainerTools
  readonly images: RuntimeImages
  readonly sandboxes: SandboxMaker
  readonly code: CodeStore
  readonly lambda: LambdaPort
  readonly gate: StartGate
  readonly ids: ContainerIds
  readonly log: LogSink
  /** Bytes of a blob by its digest. Throws `blob_missing`. */
  loadBlob(sha256: string): Promise<Uint8Array>
  /** Opens a version's secrets for the environment of an instance, and at no other time. Absent: there is no key. */
  readonly openSecret?: (secret: {
    readonly functionName: string
    readonly name: string
    readonly sealed: string
  }) => string
  readonly isolationName: string
  readonly runDirectory: string
  readonly dataDirectory: string
  readonly startTimeoutMs: number
}
