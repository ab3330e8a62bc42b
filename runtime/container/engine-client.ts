import type { Engine, EngineInfo } from './engine.ts'
import { buildCalls } from './engine-builds.ts'
import { containerCalls } from './engine-containers.ts'
import { unexpectedAnswer } from './engine-error.ts'
import { readOutput, watchContainers } from './engine-follow.ts'
import { createEngineHttp, type EngineHttp } from './engine-http.ts'
import { imageCalls } from './engine-images.ts'
import { networkCalls } from './engine-networks.ts'

export const DEFAULT_ENGINE_SOCKET = '/var/run/docker.sock'

/** Docker's engine, or one that speaks its API. Connects at the first call. */
export function createEngine({ socketPath }: { readonly socketPath: string }): Engine {
  const http = createEngineHttp(socketPath)
  const images = imageCalls(http)
  return {
    socketPath,
    info: () => info(http),
    ...containerCalls(http),
    watchContainers: (options) => watchContainers(http, options),
    readOutput: (id, options) => readOutput(http, id, options),
    ...networkCalls(http),
    ...images,
    ...buildCalls(http, images),
  }
}

interface RawInfo {
  readonly ServerVersion: string
  readonly Driver: string
  readonly CgroupDriver: EngineInfo['cgroupDriver']
  readonly CgroupVersion?: string
  readonly Architecture: string
  readonly DockerRootDir: string
}

/** The engine says the kernel's names, images have Go's. */
const ARCHITECTURE_BY_KERNEL_NAME: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  aarch64: 'arm64',
}

async function info(http: EngineHttp): Promise<EngineInfo> {
  const answer = await http.call({ method: 'GET', path: '/info' })
  if (answer.status !== 200) throw unexpectedAnswer('asking for its state', answer)
  const raw = answer.json as RawInfo
  return {
    version: raw.ServerVersion,
    apiVersion: await http.apiVersion(),
    storageDriver: raw.Driver,
    cgroupDriver: raw.CgroupDriver,
    cgroupVersion: raw.CgroupVersion === '2' ? 2 : 1,
    architecture: ARCHITECTURE_BY_KERNEL_NAME[raw.Architecture] ?? raw.Architecture,
    rootDirectory: raw.DockerRootDir,
  }
}
