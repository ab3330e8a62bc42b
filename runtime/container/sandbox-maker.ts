/**
 * Makes sandboxes (sandbox.ts). Files of one:
 *
 *   <run>/c/<id>/f/forwarder.capnp   read by the forwarder; read-only inside
 *   <run>/c/<id>/s/http.sock         made by the forwarder; the one directory that it may write to, until it has
 *   <run>/c/<id>/forward.sock        a hard link to it: nothing done inside changes where the router connects to
 *
 * A function in the sandbox shares its network namespace and nothing else with the forwarder, so it sees none of these.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import { CONTAINER_LIMITS, INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { containerName, labelsOf } from './container-labels.ts'
import { containerSpec } from './container-spec.ts'
import type { EgressNetwork } from './egress-network.ts'
import type { ContainerInspection, ContainerSpec, Engine } from './engine.ts'
import { whenPortListens } from './readiness.ts'
import { createRemoval } from './removal.ts'
import type { Sandbox, SandboxMaker } from './sandbox.ts'
import { FORWARDER_COMMAND, FORWARDER_FILES } from './sandbox-config.ts'
import { openSandboxFiles, type SandboxFiles } from './sandbox-files.ts'

export interface SandboxMakerOptions {
  readonly engine: Engine
  readonly sandboxImage: () => Promise<{ readonly imageId: string }>
  readonly isolationName: string
  readonly runDirectory: string
  readonly egressNetwork: EgressNetwork
  /** Cgroup under which the engine makes the container's own. @default the engine's */
  readonly cgroupParent?: () => Promise<string | undefined>
}

/** Its port and network, for the agent that comes next. */
const SANDBOX_LABELS = { port: 'isola.port', egress: 'isola.egress' } as const

export function createSandboxMaker(options: SandboxMakerOptions): SandboxMaker {
  const { engine, isolationName, runDirectory, egressNetwork } = options
  const removal = createRemoval(engine)

  const sandboxOf = (files: SandboxFiles, { id, pid, labels }: ContainerInspection): Sandbox => ({
    id: files.id,
    containerId: id,
    pid,
    httpSocket: files.pinnedSocket,
    egress: labels[SANDBOX_LABELS.egress] === 'true',
    port: Number(labels[SANDBOX_LABELS.port]),
    networkMode: `container:${id}`,
    async remove() {
      await removal.remove(id)
      await files.clear()
    },
  })

  return {
    async make({ id, egress, port }) {
      const [{ imageId }, networkMode, cgroupParent] = await Promise.all([
        options.sandboxImage(),
        egress ? egressNetwork.ensure() : 'none',
        options.cgroupParent?.(),
      ])
      const files = openSandboxFiles({ id, runDirectory })
      let containerId: string | undefined
      try {
        files.make({ port })
        const spec = sandboxSpec({ files, imageId, networkMode, isolationName, egress, port, cgroupParent })
        containerId = await engine.createContainer(containerName(isolationName, id), spec)
        await engine.startContainer(containerId)
        const inspection = await runningContainer(engine, containerId)
        await files.pinSocket({ pid: inspection.pid })
        return sandboxOf(files, inspection)
      } catch (error) {
        const why = await describeFailure(engine, containerId, error)
        if (containerId !== undefined) await removal.remove(containerId)
        await files.clear()
        throw why
      }
    },

    async adopt(id) {
      const labels = labelsOf({ isolationName, kind: 'sandbox', id })
      const [found] = await engine.listContainers(labels)
      const inspection = found && (await engine.inspectContainer(found.id))
      const files = openSandboxFiles({ id, runDirectory })
      if (inspection === undefined || inspection.pid === 0 || !files.isPinned()) return undefined
      return sandboxOf(files, inspection)
    },

    whenListening: ({ pid, port }, signal) => whenPortListens({ pid, port, signal }),
  }
}

function sandboxSpec(options: {
  readonly files: SandboxFiles
  readonly imageId: string
  readonly networkMode: string
  readonly isolationName: string
  readonly egress: boolean
  readonly port: number
  readonly cgroupParent: string | undefined
}): ContainerSpec {
  const { files, egress, port, isolationName, cgroupParent } = options
  return containerSpec({
    image: options.imageId,
    command: FORWARDER_COMMAND,
    imageUser: files.user,
    memoryMib: CONTAINER_LIMITS.sandboxMemoryMib,
    ephemeralStorageMib: 0,
    // Two for each request that is on its way.
    openFilesMax: INSTANCE_LIMITS.openFilesMax,
    binds: [
      { source: files.socketDirectory, target: FORWARDER_FILES.socketDirectory, readOnly: false },
      { source: files.configDirectory, target: FORWARDER_FILES.configDirectory, readOnly: true },
    ],
    networkMode: options.networkMode,
    labels: {
      ...labelsOf({ isolationName, kind: 'sandbox', id: files.id }),
      [SANDBOX_LABELS.port]: String(port),
      [SANDBOX_LABELS.egress]: String(egress),
    },
    // workerd ends at SIGTERM by itself and starts no other process.
    init: false,
    ...(cgroupParent !== undefined && { cgroupParent }),
  })
}

async function runningContainer(engine: Engine, containerId: string): Promise<ContainerInspection> {
  const inspection = await engine.inspectContainer(containerId)
  if (inspection !== undefined && inspection.pid !== 0) return inspection
  throw new Error('its forwarder ended at once')
}

/** `engine_unavailable` as it is; everything else is the node's own fault, whatever the engine called it. */
async function describeFailure(
  engine: Engine,
  containerId: string | undefined,
  error: unknown,
): Promise<IsolaError> {
  const { code, message } = error as { readonly code?: string; readonly message: string }
  if (code === 'engine_unavailable') return error as IsolaError
  const words = containerId === undefined ? '' : await lastWords(engine, containerId).catch(() => '')
  return new IsolaError('internal', `no sandbox can be made: ${message}${words}`, { cause: error })
}

/** Of a forwarder that has ended. */
async function lastWords(engine: Engine, containerId: string): Promise<string> {
  const inspection = await engine.inspectContainer(containerId)
  if (inspection?.status !== 'exited') return ''
  let last = ''
  await engine.readOutput(containerId, { sinceMs: 0, onLine: ({ text }) => (last = text) }).ended
  return ` (exit code ${inspection.exitCode}: ${last})`
}
