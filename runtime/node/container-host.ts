import { join } from 'node:path'
import type { ImageSummary } from '../../sdk/model/control.ts'
import { isIsolaError } from '../../sdk/model/errors.ts'
import { ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import { openCodeStore } from '../container/code-store.ts'
import { cgroupParentOf } from '../container/container-cgroup.ts'
import { CONTAINER_LABELS } from '../container/container-labels.ts'
import { createContainerDriver } from '../container/driver.ts'
import { createEgressNetwork } from '../container/egress-network.ts'
import { createEngine } from '../container/engine-client.ts'
import { createImageStore, type ImageStore } from '../container/image-store.ts'
import type { ContainerParts } from '../container/parts.ts'
import { createRuntimeImages } from '../container/runtime-images.ts'
import { createSandboxMaker } from '../container/sandbox-maker.ts'
import type { InstanceDriver } from '../pool/driver.ts'
import type { NodeBudget } from '../pool/node-events.ts'
import type { Registry } from '../registry/registry.ts'
import type { DataDirectory } from './data-directory.ts'
import { LambdaHold } from './lambda-hold.ts'

/**
 * Everything of a node that needs a container engine. It is there also where the engine is not: each call then says so,
 * and the first one after the engine has come works.
 */
export interface ContainerHost {
  readonly driver: InstanceDriver
  readonly images: ImageStore
  readonly lambda: LambdaHold
  /** The image of that name on this machine, else pulled. */
  resolveImage(reference: string): Promise<ImageSummary>
  /** Removes code and images that no version names any more. */
  collect(): Promise<void>
  /** With the driver. */
  close(): void
}

const FIREWALL_CHECK_MS = 15_000

export interface ContainerHostOptions {
  readonly data: DataDirectory
  readonly engineSocket: string
  readonly registry: Registry
  readonly budget: NodeBudget
  readonly allowEgress: readonly string[]
  readonly ownAddresses: readonly string[]
  readonly openSecret: ContainerParts['openSecret']
  log(line: LogLine): void
  onEvent(line: string): void
}

export async function openContainerHost(options: ContainerHostOptions): Promise<ContainerHost> {
  const { data, registry, budget, log, onEvent } = options
  const engine = createEngine({ socketPath: options.engineSocket })
  const lambda = new LambdaHold({ runPath: data.runPath, logsPath: data.logsPath, onLog: log, onEvent })
  const runtimeImages = createRuntimeImages({ engine })
  const images = createImageStore({ engine, isolationName: data.name, runtimeImages })
  const code = await openCodeStore({ directory: join(data.path, 'code') })
  const egressNetwork = createEgressNetwork({
    engine,
    isolationName: data.name,
    allowedCidrs: options.allowEgress,
    ownAddresses: options.ownAddresses,
  })
  const sandboxes = createSandboxMaker({
    engine,
    sandboxImage: () => runtimeImages.sandboxImage(),
    isolationName: data.name,
    runDirectory: data.runPath,
    egressNetwork,
    cgroupParent: () => cgroupParentOf({ engine, isolationName: data.name }),
  })
  const driver = await createContainerDriver({
    engine,
    images: runtimeImages,
    sandboxes,
    code,
    lambda,
    isolationName: data.name,
    runDirectory: data.runPath,
    dataDirectory: data.path,
    loadBlob: (sha256) => registry.getBlob(sha256),
    openSecret: options.openSecret,
    log,
    egressNetwork,
    budget,
  })
  // Whoever flushes the machine's firewall opens the node to containers that run already.
  const guard = setInterval(() => {
    engine
      .listNetworks({ [CONTAINER_LABELS.node]: data.name })
      .then((networks) => (networks.length > 0 ? egressNetwork.ensure() : undefined))
      .catch((error: unknown) => {
        if (!isIsolaError(error) || error.code !== 'engine_unavailable') {
          onEvent(`the rules of the network of containers cannot be checked: ${String(error)}`)
        }
      })
  }, FIREWALL_CHECK_MS)
  return {
    driver,
    images,
    lambda,
    async resolveImage(reference) {
      const found = await engine.inspectImage(reference)
      if (found === undefined) return await images.pull({ reference, onText: () => undefined })
      return { imageId: found.id, sizeBytes: found.sizeBytes, architecture: found.architecture }
    },
    async collect() {
      const named = await namedByVersions(registry)
      await code.collect(named.archives)
      if (named.any) await images.collect(named.images, { bytesMax: ENGINE_LIMITS.buildCacheBytesMax })
    },
    close: () => clearInterval(guard),
  }
}

/** Of every version that is kept, also of those without traffic: a rollback must find them. */
async function namedByVersions(
  registry: Registry,
): Promise<{ readonly any: boolean; readonly archives: Set<string>; readonly images: Set<string> }> {
  const archives = new Set<string>()
  const images = new Set<string>()
  let any = false
  for (const { name, kind } of Object.values(registry.head.functions)) {
    if (kind !== 'container') continue
    any = true
    for (const { content } of await registry.listVersions(name)) {
      if (content.kind !== 'container') continue
      if (content.source.type === 'code') archives.add(content.source.archive.sha256)
      else images.add(content.source.imageId)
    }
  }
  return { any, archives, images }
}
