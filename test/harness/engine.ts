/**
 * The real container engine, for tests. Without one they are skipped by name, in CI they fail. Everything a test makes
 * carries the label `isola.node=<isolationName>` of its own place and is removed with it, whatever happened.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { pack } from 'tar-stream'
import { describe, test } from 'vitest'
import type { ContainerSpec, Engine } from '../../runtime/container/engine.ts'
import { createEngine, DEFAULT_ENGINE_SOCKET } from '../../runtime/container/engine-client.ts'
import { besideLibraries, sharedLibrariesOf } from '../../runtime/container/shared-libraries.ts'

const hasEngine = await isThere()
const mustRun = hasEngine || process.env['CI'] !== undefined

/** `test` and `describe` of what needs an engine. */
export const engineTest = mustRun ? test : test.skip
export const describeEngine = mustRun ? describe : describe.skip

export interface EnginePlace {
  readonly engine: Engine
  readonly socketPath: string
  /** Unique; what names of containers, networks and images begin with. */
  readonly isolationName: string
  /** Belongs on everything that is made. */
  readonly labels: Readonly<Record<string, string>>
  /** A small image with /bin/sh, cat, dd, env, head, id, ls, mkdir, rm, sleep, tr. Made at the first call. */
  image(): Promise<string>
  /** Reference of that image, for a Dockerfile's FROM. */
  readonly imageReference: string
  /** Makes and starts a container of that image; returns its id. */
  run(script: string, options?: RunOptions): Promise<string>
  close(): Promise<void>
}

export interface RunOptions {
  readonly name?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly hostConfig?: ContainerSpec['HostConfig']
}

export async function openEngine(): Promise<EnginePlace> {
  const isolationName = `test-${process.pid}-${randomBytes(4).toString('hex')}`
  const engine = createEngine({ socketPath: DEFAULT_ENGINE_SOCKET })
  const labels = { 'isola.node': isolationName }
  const imageReference = `isola-${isolationName}:shell`
  let made: Promise<string> | undefined
  const image = (): Promise<string> =>
    (made ??= engine.importImage({
      tar: shellImage(),
      reference: imageReference,
      changes: [`LABEL isola.node=${isolationName}`, 'ENV PATH=/bin'],
    }))
  return {
    engine,
    socketPath: DEFAULT_ENGINE_SOCKET,
    isolationName,
    labels,
    image,
    imageReference,
    async run(script, options = {}) {
      const id = await engine.createContainer(
        options.name ?? `isola-${isolationName}-${randomBytes(4).toString('hex')}`,
        {
          Image: await image(),
          Entrypoint: ['/bin/sh', '-c'],
          Cmd: [script],
          Labels: { ...labels, ...options.labels },
          HostConfig: { NetworkMode: 'none', ...options.hostConfig },
        },
      )
      await engine.startContainer(id)
      return id
    },
    close: () => removeAll(engine, labels),
  }
}

/** For one test; everything goes with it. */
export async function withEngine<T>(use: (place: EnginePlace) => Promise<T>): Promise<T> {
  const place = await openEngine()
  try {
    return await use(place)
  } finally {
    await place.close()
  }
}

async function removeAll(engine: Engine, labels: Readonly<Record<string, string>>): Promise<void> {
  // Those in whose namespaces others live go last.
  for (const { id } of await engine.listContainers(labels)) await engine.removeContainer(id)
  for (const { id } of await engine.listNetworks(labels)) await engine.removeNetwork(id)
  // Each pass frees the parents of what the one before removed.
  for (let pass = 0; pass < 3; pass++) {
    for (const { id, references } of await engine.listImages(labels)) {
      for (const reference of references.length === 0 ? [id] : references) await engine.removeImage(reference)
    }
  }
}

/** A root file system of the host's own shell and a few programs, with their libraries. */
async function* shellImage(): AsyncGenerator<Uint8Array> {
  const programs = ['sh', 'cat', 'dd', 'env', 'head', 'id', 'ls', 'mkdir', 'rm', 'sleep', 'tr'].map(
    (name) => `/bin/${name}`,
  )
  const libraries = await sharedLibrariesOf(programs)
  const paths = [...programs, ...libraries, ...besideLibraries(libraries, ['libnss_files.so.2'])]
  const tar = pack()
  for (const name of ['tmp', 'run', 'proc', 'sys', 'dev', 'etc', 'var']) {
    tar.entry({ name: `${name}/`, type: 'directory', mode: name === 'tmp' ? 0o1777 : 0o755 })
  }
  tar.entry({ name: 'etc/passwd' }, 'root:x:0:0::/:/bin/sh\nfunction:x:64000:64000::/tmp:/bin/sh\n')
  for (const path of new Set(paths)) tar.entry({ name: path.slice(1), mode: 0o755 }, readFileSync(path))
  tar.finalize()
  yield* tar as AsyncIterable<Uint8Array>
}

async function isThere(): Promise<boolean> {
  try {
    await createEngine({ socketPath: DEFAULT_ENGINE_SOCKET }).info()
    return true
  } catch {
    return false
  }
}
