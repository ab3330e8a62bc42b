/**
 * From a version to a running instance; or to `start_failed` with the function's own message, which counts against the
 * version. Code without a network begins as a blank, everything else in a sandbox; where none is ready, one is made on
 * the spot. What a failed start has made is gone when it throws.
 */
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError, isIsolaError, type ErrorCode } from '../../sdk/model/errors.ts'
import type { LambdaEnvironment } from '../lambda/wire.ts'
import { lateWords, ownerOf, type StartingBody, type StartRequest } from './body.ts'
import { followOutput } from './container-output.ts'
import { environmentEnd, reportExit } from './exit-report.ts'
import { createInstance, instanceLine, type ContainerInstance } from './instance.ts'
import { lambdaFunctionOf, withoutSecrets } from './lambda-function.ts'
import type { ContainerParts } from './parts.ts'
import { writeRecord } from './record.ts'
import { startInSandbox } from './start-in-sandbox.ts'
import { createUndo, type Undo } from './undo.ts'

export async function startInstance(
  parts: ContainerParts,
  request: StartRequest,
): Promise<ContainerInstance> {
  const { version } = request
  const undo = createUndo()
  try {
    const { source, settings } = version.content
    const isBlank = source.type === 'code' && !settings.egress
    const body = await (isBlank ? claimBlank : startInSandbox)(parts, request, undo)
    // Those that wait for it should not wait for its neighbours.
    body.container.cgroup?.setCpuWeight(INSTANCE_LIMITS.cpuWeightStarting)
    await untilReady(parts, request, body)
    return takeUp(parts, request, body)
  } catch (error) {
    await undo.run()
    const { code, why } = faultOf(error)
    const message = `function "${version.functionName}" did not start: ${why}`
    parts.log(instanceLine(version, undefined, message))
    const details = isIsolaError(error) ? error.details : undefined
    throw new IsolaError(code, code === 'engine_unavailable' ? why : message, {
      cause: error,
      ...(details && { details }),
    })
  }
}

async function claimBlank(parts: ContainerParts, request: StartRequest, undo: Undo): Promise<StartingBody> {
  const { code, lambda, tools } = parts
  const { version, limits } = request
  const { source } = version.content
  if (source.type !== 'code') throw new Error(`version ${version.id} has no code`)
  const { sha256 } = source.archive
  // Unpacked once a node; before the blank is taken, because a broken archive needs none.
  await code.prepare({ sha256, load: () => parts.loadBlob(sha256) })
  const { home, container, discard } = await request.takeRuntimeBlank()
  undo.add(discard)
  const output = followOutput({
    engine: tools.engine,
    containerId: container.containerId,
    sinceMs: Date.now(),
    owner: ownerOf(version, home.id),
    log: parts.log,
  })
  undo.add(() => output.stop())
  await code.place(sha256, home.taskDirectory)
  const environment: LambdaEnvironment = {
    id: home.id,
    httpSocket: home.httpSocket,
    runtimeApi: { type: 'socket', path: home.apiSocket },
    function: lambdaFunctionOf({ version, limits, handler: source.handler, parts }),
  }
  lambda.claim(home.id, environment.function!)
  return {
    home,
    container,
    sandbox: undefined,
    output,
    environment,
    socketPath: home.httpSocket,
    ready: lambda.whenReady(home.id),
    late: lateWords(parts),
  }
}

/** The Lambda process counts its own time, and its words are better. */
const LATE_MARGIN_MS = 1_000
/** What the function said last comes by another way than its end. */
const LAST_WORDS_MS = 50

async function untilReady(
  parts: ContainerParts,
  { limits }: StartRequest,
  body: StartingBody,
): Promise<void> {
  const { home, container, output, ready } = body
  const { cgroups } = parts.tools
  const hitsBefore = cgroups.budgetHits()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new IsolaError('start_failed', body.late)),
      parts.startTimeoutMs + LATE_MARGIN_MS,
    )
  })
  const over = async (): Promise<never> => {
    const end = await container.ended
    await output.readUp()
    await Promise.race([
      ready.then(() => undefined),
      new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS)),
    ])
    const errors = output.lastErrors()
    parts.lambda.ended(home.id, environmentEnd(end, errors))
    const { cause, message, detail } = reportExit({
      end,
      requested: undefined,
      errors,
      limits,
      budgetReachedMib: cgroups.budgetReachedMib(hitsBefore),
    })
    if (cause === 'node_out_of_memory') throw new IsolaError('node_full', message)
    const words = detail === undefined ? message : `${message}: ${detail}`
    throw new IsolaError('start_failed', words, { details: { forVisitors: message } })
  }
  try {
    await Promise.race([ready, late, over()])
  } finally {
    clearTimeout(timer)
  }
}

function takeUp(
  parts: ContainerParts,
  { version, limits }: StartRequest,
  body: StartingBody,
): ContainerInstance {
  const { home, container, sandbox, environment } = body
  const { cgroups } = parts.tools
  const startedAtMs = Date.now()
  if (container.cgroup !== undefined) {
    container.cgroup.setCpuWeight(INSTANCE_LIMITS.cpuWeightOrdinary)
    // A start that is throttled takes a multiple of its time.
    cgroups.limitCpus(container.cgroup, version.content.settings.cpus)
  }
  writeRecord(home.directory, {
    formatVersion: 1,
    id: home.id,
    containerId: container.containerId,
    sandbox: sandbox !== undefined,
    version,
    startedAtMs,
    limits,
    ...(environment !== undefined && { environment: withoutSecrets(environment, version) }),
  })
  return createInstance(parts, { body, version, limits, startedAtMs })
}

/** Whose fault it is, by the code, and why. */
function faultOf(error: unknown): { readonly code: ErrorCode; readonly why: string } {
  const why = (error as Error).message
  if (!isIsolaError(error)) return { code: 'internal', why }
  if (error.code !== 'image_not_found') return { code: error.code, why }
  return { code: 'version_refused', why: `${why}; then deploy it again` }
}
