/**
 * A container that joins a sandbox's network: every image, and code that reaches the internet. The sandbox is most of
 * what a start costs, and is made ahead. What else must be there before the container runs is made side by side.
 */
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import type { ContainerVersion } from '../../sdk/model/function.ts'
import type { LambdaEnvironment } from '../lambda/wire.ts'
import type { StartOptions } from '../pool/driver.ts'
import { lateWords, ownerOf, type StartingBody, type StartRequest } from './body.ts'
import { containerName } from './container-labels.ts'
import { followOutput } from './container-output.ts'
import type { ContainerSpec, ImageInspection } from './engine.ts'
import { openHome, type Home } from './home.ts'
import { lambdaFunctionOf } from './lambda-function.ts'
import type { ContainerParts } from './parts.ts'
import { createContainer } from './running-container.ts'
import { letIn } from './runtime-blank.ts'
import type { Sandbox } from './sandbox.ts'
import { codeSpec, imageSpec } from './specs.ts'
import type { Undo } from './undo.ts'

export async function startInSandbox(
  parts: ContainerParts,
  request: StartRequest,
  undo: Undo,
): Promise<StartingBody> {
  const { version, limits } = request
  const { tools, lambda, gate, log } = parts
  const [taken, what] = await Promise.allSettled([request.takeSandbox(), prepare(parts, version)])
  if (taken.status === 'fulfilled') undo.add(() => taken.value.discard())
  // A version that cannot run is refused whatever else is wrong.
  if (what.status === 'rejected') throw what.reason
  if (taken.status === 'rejected') throw asNodeFault(taken.reason)
  const { sandbox } = taken.value
  const home = openHome({ ...parts, id: sandbox.id, adopted: false })
  undo.add(() => home.clear())
  const isLambda = version.content.protocol === 'lambda'
  if (isLambda) undo.add(() => lambda.close(home.id))
  const environment = isLambda
    ? environmentOf(parts, { version, limits, home, sandbox, image: what.value.image })
    : undefined
  const handler = environment?.function?.handler
  const spec = await specOf(parts, { version, limits, home, sandbox, handler, prepared: what.value })
  const container = await gate.run({ urgent: true }, async () => {
    const [opened, created] = await Promise.allSettled([
      environment && openDoors(parts, environment),
      createContainer(tools, { name: containerName(parts.isolationName, `${home.id}-function`), spec }),
    ])
    if (created.status === 'rejected') throw created.reason
    undo.add(() => created.value.remove())
    if (opened.status === 'rejected') throw opened.reason
    return created.value.start()
  })
  undo.add(() => container.remove())
  const output = followOutput({
    engine: tools.engine,
    containerId: container.containerId,
    sinceMs: 0,
    owner: ownerOf(version, home.id),
    log,
  })
  undo.add(() => output.stop())
  const listening = new AbortController()
  undo.add(() => listening.abort())
  const { startTimeoutMs } = parts
  const port = sandbox.port
  const ready = isLambda
    ? lambda.whenReady(home.id)
    : whenListening(parts, sandbox, AbortSignal.any([listening.signal, AbortSignal.timeout(startTimeoutMs)]))
  const late = isLambda
    ? lateWords(parts)
    : `it did not listen on port ${port} within ${startTimeoutMs} ms: listen on 0.0.0.0:$PORT, or set "port" to where it listens`
  // Both are awaited together with its end, which may come first.
  ready.catch(() => undefined)
  const socketPath = isLambda ? home.httpSocket : sandbox.httpSocket
  return { home, container, sandbox: taken.value, output, environment, socketPath, ready, late }
}

async function openDoors({ lambda }: ContainerParts, environment: LambdaEnvironment): Promise<void> {
  await lambda.open(environment)
  if (environment.runtimeApi.type === 'socket') letIn(environment.runtimeApi.path)
}

async function whenListening(
  { sandboxes }: ContainerParts,
  sandbox: Sandbox,
  signal: AbortSignal,
): Promise<void> {
  try {
    await sandboxes.whenListening(sandbox, signal)
  } catch (error) {
    // The time is over: whoever waits says so in better words.
    if (!signal.aborted) throw error
    await new Promise(() => undefined)
  }
}

interface Prepared {
  /** Of an image version. */
  readonly image: ImageInspection | undefined
  readonly imageId: string
  /** Of a code version, on the host. */
  readonly codeDirectory: string | undefined
}

/** Throws `version_refused` for an image or archive that cannot be used. */
async function prepare(parts: ContainerParts, { content }: ContainerVersion): Promise<Prepared> {
  const { source } = content
  if (source.type === 'code') {
    const { sha256 } = source.archive
    const codeDirectory = await parts.code.prepare({ sha256, load: () => parts.loadBlob(sha256) })
    const { imageId } = await parts.images.runtimeImage(source.runtime)
    return { image: undefined, imageId, codeDirectory }
  }
  const image = await parts.tools.engine.inspectImage(source.imageId)
  if (image !== undefined) return { image, imageId: source.imageId, codeDirectory: undefined }
  throw new IsolaError(
    'version_refused',
    `image ${source.imageId} is not on this node: build, load or pull it here, then deploy again`,
  )
}

function environmentOf(
  parts: ContainerParts,
  {
    version,
    limits,
    home,
    sandbox,
    image,
  }: {
    readonly version: ContainerVersion
    readonly limits: StartOptions
    readonly home: Home
    readonly sandbox: Sandbox
    readonly image: ImageInspection | undefined
  },
): LambdaEnvironment {
  const { source } = version.content
  const handler =
    source.type === 'code' ? source.handler : (source.command?.[0] ?? image?.command[0] ?? 'function.handler')
  return {
    id: home.id,
    httpSocket: home.httpSocket,
    runtimeApi:
      source.type === 'image'
        ? { type: 'namespace', pid: sandbox.pid }
        : { type: 'socket', path: home.apiSocket },
    function: lambdaFunctionOf({ version, limits, handler, parts }),
  }
}

async function specOf(
  parts: ContainerParts,
  instance: {
    readonly version: ContainerVersion
    readonly limits: StartOptions
    readonly home: Home
    readonly sandbox: Sandbox
    readonly handler: string | undefined
    readonly prepared: Prepared
  },
): Promise<ContainerSpec> {
  const cgroupParent = await parts.tools.cgroups.parent()
  const { image, imageId, codeDirectory } = instance.prepared
  const { source } = instance.version.content
  if (source.type === 'code') {
    const { runtime } = source
    return codeSpec(parts, { ...instance, runtime, imageId, codeDirectory: codeDirectory!, cgroupParent })
  }
  return imageSpec(parts, { ...instance, image: image!, cgroupParent })
}

/** A sandbox that does not start is none of the function's doing. */
function asNodeFault(error: unknown): unknown {
  if (!isIsolaError(error) || error.code !== 'start_failed') return error
  return new IsolaError('internal', error.message, { cause: error })
}
