import { IsolaError } from '../../sdk/model/errors.ts'
import type { DeployRequest, DeployResult } from '../../sdk/model/control.ts'
import {
  parseFunctionName,
  type Deployment,
  type FunctionRecord,
  type Head,
} from '../../sdk/model/function.ts'
import type { PolicyPatch } from '../../sdk/model/policy.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { startVersion, withRecentVersion, type AmendRecord } from './create-version.ts'
import { deployResult, newDeployment } from './go-live.ts'
import type { ControlPorts } from './ports.ts'
import { checkRoutesFree, configRoutes, parsePatterns } from './routes.ts'
import { swapFunction } from './swap-function.ts'

/**
 * Puts a version of a function into service: 100 % of the traffic, its config routes, its hosts, in one swap.
 *
 * Everything that can be refused is refused before the version is started, and again inside the swap, where it counts:
 * another deploy may have come first. A refused version leaves nothing behind and the old one serving. Two deploys of
 * one function at the same time are put in one order by the swap; the later one serves.
 */
export async function deploy(
  ports: ControlPorts,
  functionName: string,
  request: DeployRequest,
  amend: AmendRecord = (record) => record,
): Promise<DeployResult> {
  const startedAtMs = performance.now()
  const { registry } = ports
  parseFunctionName(functionName)
  const patterns = parsePatterns(request.routes)
  const planned = (head: Head, versionId: string): FunctionRecord =>
    planDeploy({ head, functionName, request, patterns, versionId })
  planned(await registry.refresh(), '')

  const { version, trialMs } = await startVersion(ports, functionName, request)
  await registry.putVersion(version)
  const { head, record } = await swapFunction(ports, (head) => amend(planned(head, version.id), version.id))
  return deployResult(ports, { head, record, startedAtMs, trialMs })
}

function planDeploy(options: {
  readonly head: Head
  readonly functionName: string
  readonly request: DeployRequest
  readonly patterns: readonly string[]
  readonly versionId: string
}): FunctionRecord {
  const { head, functionName, request, patterns, versionId } = options
  // "constructor" is a name as any other.
  const existing = Object.hasOwn(head.functions, functionName) ? head.functions[functionName] : undefined
  checkRoom(head, existing, functionName)
  if (existing !== undefined && existing.kind !== request.kind) {
    throw new IsolaError(
      'conflict',
      `"${functionName}" is of kind "${existing.kind}", not "${request.kind}": delete it first, or choose another name`,
    )
  }
  const routes = configRoutes(existing?.routes ?? [], patterns)
  checkRoutesFree(head, functionName, routes)
  const deployment: Deployment = newDeployment({
    shares: [{ versionId, percent: 100 }],
    message: request.message,
    previous: existing?.deployment,
  })
  return {
    ...existing,
    name: functionName,
    kind: request.kind,
    deployment,
    recentVersionIds: withRecentVersion(existing?.recentVersionIds ?? [], versionId),
    routes,
    baseDomainHost: request.baseDomainHost,
    previewHosts: request.previewHosts,
    policy: existing?.policy ?? firstPolicy(request),
  }
}

/**
 * A Lambda runtime takes one event at a time, so many at a time are many instances; the node's memory bounds them. It is
 * set like any policy, to be seen and to be changed.
 */
function firstPolicy(request: DeployRequest): PolicyPatch {
  return request.kind === 'container' && request.protocol === 'lambda' ? { concurrency: 1, max: 100 } : {}
}

function checkRoom(head: Head, existing: FunctionRecord | undefined, functionName: string): void {
  const count = Object.keys(head.functions).length
  if (existing !== undefined || count < CONTROL_LIMITS.functionsMax) return
  throw new IsolaError(
    'conflict',
    `"${functionName}" would be function ${count + 1} and ${CONTROL_LIMITS.functionsMax} is the most: delete one that is not needed (isola delete)`,
  )
}
