import type { ContainerVersion } from '../../sdk/model/function.ts'
import type { LambdaEnvironment } from '../lambda/wire.ts'
import type { StartOptions } from '../pool/driver.ts'
import type { ContainerOutput } from './container-output.ts'
import type { Home } from './home.ts'
import type { LineOwner } from './output-line.ts'
import type { RunningContainer } from './running-container.ts'
import type { RuntimeBlank } from './runtime-blank.ts'
import type { SandboxBlank } from './sandbox-blank.ts'

/** What an instance is made of. */
export interface Body {
  readonly home: Home
  readonly container: RunningContainer
  readonly sandbox: SandboxBlank | undefined
  readonly output: ContainerOutput
  /** Of protocol `lambda`. */
  readonly environment: LambdaEnvironment | undefined
  readonly socketPath: string
}

/** One of which it is not yet known whether its function starts. */
export interface StartingBody extends Body {
  /** Resolves when it takes requests. Throws `start_failed` with the function's own words. */
  readonly ready: Promise<unknown>
  /** What is wrong where that takes too long. */
  readonly late: string
}

export interface StartRequest {
  readonly version: ContainerVersion
  /** In force for the instance. */
  readonly limits: StartOptions
  /** What it begins as: one that waits, else one made for it. */
  takeRuntimeBlank(): Promise<RuntimeBlank>
  takeSandbox(): Promise<SandboxBlank>
}

/** Of a function that takes events. */
export function lateWords({ startTimeoutMs }: { readonly startTimeoutMs: number }): string {
  return `not ready after ${startTimeoutMs} ms: look for long work outside of the handler`
}

export function ownerOf(version: ContainerVersion, instanceId: string): LineOwner {
  return { functionName: version.functionName, versionId: version.id, instanceId }
}
