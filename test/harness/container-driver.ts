/**
 * A container driver on the real engine, with a real Lambda process. Everything it makes carries a name of its own and
 * is gone when the place is closed, whatever a test did.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import yazl from 'yazl'
import {
  DEFAULT_CONTAINER_SETTINGS,
  type VariableBinding,
  type ContainerContent,
  type ContainerSettings,
  type ContainerSource,
  type ContainerVersion,
  type VersionLimits,
} from '../../sdk/model/function.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import { openCodeStore } from '../../runtime/container/code-store.ts'
import { createContainerDriver, type ContainerDriverOptions } from '../../runtime/container/driver.ts'
import { createEngine, DEFAULT_ENGINE_SOCKET } from '../../runtime/container/engine-client.ts'
import type { Engine } from '../../runtime/container/engine.ts'
import { cgroupParentOf } from '../../runtime/container/container-cgroup.ts'
import { createEgressNetwork } from '../../runtime/container/egress-network.ts'
import { createRuntimeImages } from '../../runtime/container/runtime-images.ts'
import { createSandboxMaker } from '../../runtime/container/sandbox-maker.ts'
import { LambdaHold } from '../../runtime/node/lambda-hold.ts'
import type { InstanceDriver } from '../../runtime/pool/driver.ts'

export interface ContainerPlace {
  readonly driver: InstanceDriver
  readonly engine: Engine
  readonly lambda: LambdaHold
  readonly lines: LogLine[]
  readonly directory: string
  readonly isolationName: string
  /** The first line, past or to come, that is right. */
  line(isRight: (line: LogLine) => boolean): Promise<LogLine>
  /** Containers of this node that the engine knows, running or not. */
  containers(): ReturnType<Engine['listContainers']>
  /** Resolves when as many blanks wait. */
  blanks(count: number): Promise<void>
  end(): Promise<void>
}

export interface ContainerPlaceOptions extends Partial<ContainerDriverOptions> {
  /** Of an earlier agent. */
  readonly directory?: string
}

export async function openContainerPlace(options: ContainerPlaceOptions = {}): Promise<ContainerPlace> {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'isc-'))
  const isolationName = options.isolationName ?? `test-${process.pid}-${randomBytes(4).toString('hex')}`
  const runDirectory = join(directory, 'r')
  const dataDirectory = join(directory, 'd')
  for (const path of [runDirectory, dataDirectory]) mkdirSync(path, { recursive: true })
  const lines: LogLine[] = []
  const awaited = new Set<() => void>()
  const log = (line: LogLine): void => {
    lines.push(line)
    for (const look of awaited) look()
  }
  const lambda = new LambdaHold({
    runPath: runDirectory,
    logsPath: directory,
    onLog: log,
    onEvent: () => undefined,
  })
  const engine = options.engine ?? createEngine({ socketPath: DEFAULT_ENGINE_SOCKET })
  const images = createRuntimeImages({ engine })
  const egressNetwork = createEgressNetwork({ engine, isolationName, allowedCidrs: [], ownAddresses: [] })
  const sandboxes = createSandboxMaker({
    engine,
    sandboxImage: () => images.sandboxImage(),
    isolationName,
    runDirectory,
    egressNetwork,
    cgroupParent: () => cgroupParentOf({ engine, isolationName }),
  })
  const driver = await createContainerDriver({
    engine,
    images,
    sandboxes,
    egressNetwork,
    code: await openCodeStore({ directory: join(dataDirectory, 'code') }),
    lambda,
    isolationName,
    runDirectory,
    dataDirectory,
    loadBlob: loadTestBlob,
    log,
    ...options,
  })
  return {
    driver,
    engine,
    lambda,
    lines,
    directory,
    isolationName,
    line: (isRight) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = lines.find(isRight)
          if (found === undefined) return
          awaited.delete(look)
          resolve(found)
        }
        awaited.add(look)
        look()
      }),
    containers: () => engine.listContainers({ 'isola.node': isolationName }),
    async blanks(count) {
      while (driver.blanks().length !== count) await new Promise((resolve) => setTimeout(resolve, 5))
    },
    async end() {
      await driver.close()
      await lambda.shutdown(1_000)
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

const blobs = new Map<string, Uint8Array>()

async function loadTestBlob(sha256: string): Promise<Uint8Array> {
  const bytes = blobs.get(sha256)
  if (bytes === undefined) throw new IsolaError('blob_missing', `no blob ${sha256}`)
  return bytes
}

/** A version of these files; of one `index.mjs` where only its text is given. */
export async function codeVersion(
  files: string | Readonly<Record<string, string>>,
  options: {
    readonly runtime?: 'nodejs24' | 'python3'
    readonly handler?: string
    readonly bindings?: readonly VariableBinding[]
    readonly settings?: Partial<ContainerSettings>
    readonly limits?: Partial<VersionLimits>
  } = {},
): Promise<ContainerVersion> {
  const archive = await zip(typeof files === 'string' ? { 'index.mjs': files } : files)
  return versionOf({
    protocol: 'lambda',
    source: {
      type: 'code',
      runtime: options.runtime ?? 'nodejs24',
      handler: options.handler ?? 'index.handler',
      archive: putBlob(archive),
    },
    ...options,
  })
}

/** An image version of protocol `http` whose program is this JavaScript, on the image of the node runtime. */
export async function serverVersion(
  engine: Engine,
  script: string,
  options: { readonly settings?: Partial<ContainerSettings>; readonly limits?: Partial<VersionLimits> } = {},
): Promise<ContainerVersion> {
  const { imageId } = await createRuntimeImages({ engine }).runtimeImage('nodejs24')
  return versionOf({
    protocol: 'http',
    source: { type: 'image', imageId, entryPoint: ['node', '-e', script], command: [] },
    ...options,
  })
}

export function putBlob(bytes: Uint8Array): { readonly sha256: string; readonly sizeBytes: number } {
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  blobs.set(sha256, bytes)
  return { sha256, sizeBytes: bytes.length }
}

export function versionOf(options: {
  readonly protocol: 'lambda' | 'http'
  readonly source: ContainerSource
  readonly bindings?: readonly VariableBinding[]
  readonly settings?: Partial<ContainerSettings>
  readonly limits?: Partial<VersionLimits>
}): ContainerVersion {
  const content: ContainerContent = {
    kind: 'container',
    protocol: options.protocol,
    source: options.source,
    bindings: options.bindings ?? [],
    limits: options.limits ?? {},
    settings: { ...DEFAULT_CONTAINER_SETTINGS, ...options.settings },
  }
  const id = createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 32)
  return { id, functionName: 'tested', content, createdAt: '2026-11-21T00:00:00.000Z', message: '' }
}

async function zip(files: Readonly<Record<string, string>>): Promise<Uint8Array> {
  const archive = new yazl.ZipFile()
  for (const [name, text] of Object.entries(files)) archive.addBuffer(Buffer.from(text), name)
  archive.end()
  const chunks: Buffer[] = []
  for await (const chunk of archive.outputStream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
