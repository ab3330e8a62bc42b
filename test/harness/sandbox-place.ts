/** Sandboxes and functions in them, on the real engine. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { containerSpec, type ContainerSpecOptions } from '../../runtime/container/container-spec.ts'
import { createEgressNetwork, type EgressNetwork } from '../../runtime/container/egress-network.ts'
import { createRuntimeImages } from '../../runtime/container/runtime-images.ts'
import type { Sandbox, SandboxMaker } from '../../runtime/container/sandbox.ts'
import { createSandboxMaker } from '../../runtime/container/sandbox-maker.ts'
import { openEngine, type EnginePlace } from './engine.ts'

export interface SandboxPlace extends EnginePlace {
  readonly runDirectory: string
  readonly sandboxes: SandboxMaker
  readonly egress: EgressNetwork
  /** Runs a program of node's in a hardened container; returns its id. */
  node(program: string, options?: Partial<ContainerSpecOptions>): Promise<string>
  /** What it wrote, and how it ended. */
  outputOf(containerId: string): Promise<{ readonly text: string; readonly exitCode: number }>
  /** With something in it that listens. */
  serve(sandbox: Sandbox, program: string): Promise<string>
}

export async function openSandboxes(
  options: { readonly allowedCidrs?: readonly string[]; readonly ownAddresses?: readonly string[] } = {},
): Promise<SandboxPlace> {
  const place = await openEngine()
  const { engine, isolationName, labels } = place
  const runDirectory = mkdtempSync(join(tmpdir(), 'isola-sb-'))
  const images = createRuntimeImages({ engine })
  const egress = createEgressNetwork({
    engine,
    isolationName,
    allowedCidrs: [],
    ownAddresses: [],
    ...options,
  })
  const sandboxes = createSandboxMaker({
    engine,
    sandboxImage: () => images.sandboxImage(),
    isolationName,
    runDirectory,
    egressNetwork: egress,
  })
  let count = 0
  const node = async (program: string, differences: Partial<ContainerSpecOptions> = {}): Promise<string> => {
    const { imageId } = await images.runtimeImage('nodejs24')
    const spec = containerSpec({
      image: imageId,
      entryPoint: ['node', '-e', program],
      command: [],
      memoryMib: 128,
      ephemeralStorageMib: 16,
      networkMode: 'none',
      labels,
      ...differences,
    })
    const id = await engine.createContainer(`isola-${isolationName}-node${++count}`, spec)
    await engine.startContainer(id)
    return id
  }
  return {
    ...place,
    runDirectory,
    sandboxes,
    egress,
    node,
    async outputOf(containerId) {
      const lines: string[] = []
      await engine.readOutput(containerId, { sinceMs: 0, onLine: ({ text }) => lines.push(text) }).ended
      const inspection = await engine.inspectContainer(containerId)
      return { text: lines.join('\n'), exitCode: inspection?.exitCode ?? -1 }
    },
    async serve(sandbox, program) {
      const id = await node(program, { networkMode: sandbox.networkMode })
      await sandboxes.whenListening(sandbox, AbortSignal.timeout(20_000))
      return id
    },
    async close() {
      await place.close()
      await egress.remove()
      rmSync(runDirectory, { recursive: true, force: true })
    },
  }
}
