import { randomUUID } from 'node:crypto'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import type { DeployResult } from '../../sdk/model/control.ts'
import type { Deployment, FunctionRecord, Head, TrafficShare } from '../../sdk/model/function.ts'
import type { ControlPorts } from './ports.ts'
import { functionUrls } from './urls.ts'

/** A deployment that replaces `previous`. */
export function newDeployment(options: {
  readonly shares: readonly TrafficShare[]
  readonly message: string | undefined
  readonly previous: Deployment | undefined
}): Deployment {
  const { shares, message, previous } = options
  return {
    id: randomUUID(),
    shares,
    createdAt: new Date().toISOString(),
    message: message ?? '',
    ...(previous && { previousId: previous.id }),
  }
}

/** Waits until the router has the head in force. Throws `node_unreachable` that says the change is recorded. */
export async function untilLive(ports: ControlPorts, head: Head): Promise<void> {
  try {
    await ports.whenLive(head.generation)
  } catch (error) {
    if (!isIsolaError(error)) throw error
    throw new IsolaError(
      error.code,
      `the change is recorded (generation ${head.generation}) and takes effect when the router has it, but it is not in force yet: ${error.message}`,
      { cause: error, details: { ...error.details, generation: head.generation } },
    )
  }
}

/** The answer to whoever changed what serves; `startedAtMs` is on the `performance` clock. */
export async function deployResult(
  ports: ControlPorts,
  written: {
    readonly head: Head
    readonly record: FunctionRecord
    readonly startedAtMs: number
    readonly trialMs?: number
  },
): Promise<DeployResult> {
  const { head, record, startedAtMs, trialMs } = written
  await untilLive(ports, head)
  return {
    functionName: record.name,
    deployment: record.deployment,
    generation: head.generation,
    urls: functionUrls(record, { baseDomain: ports.baseDomain, port: ports.httpPort() }),
    liveMs: elapsedMs(startedAtMs),
    ...(trialMs !== undefined && { trialMs }),
  }
}

function elapsedMs(startedAtMs: number): number {
  return Math.round((performance.now() - startedAtMs) * 10) / 10
}
