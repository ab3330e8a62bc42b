/**
 * What `isola doctor` says of the container engine. Without one a node serves worker functions all the same, so nothing
 * here is more than a warning.
 */
import { statfs } from 'node:fs/promises'
import { createEngine } from '../../runtime/container/engine-client.ts'
import type { EngineInfo } from '../../runtime/container/engine.ts'
import type { Finding } from './doctor-checks.ts'
import { formatBytes } from './output.ts'

/** One finding where there is no engine, else one of each subject. */
export async function examineEngine(options: { readonly socketPath: string }): Promise<readonly Finding[]> {
  let engine: EngineInfo
  try {
    engine = await createEngine(options).info()
  } catch (error) {
    return [{ check: 'engine', result: 'warn', message: (error as Error).message }]
  }
  const { version, apiVersion, architecture } = engine
  return [
    {
      check: 'engine',
      result: 'ok',
      message: `container engine ${version}, API ${apiVersion}, linux/${architecture}, at ${options.socketPath}`,
    },
    { check: 'engine storage', ...examineStorage(engine) },
    { check: 'engine cgroups', ...examineCgroups(engine) },
    { check: 'engine disk', ...(await examineDisk(engine)) },
  ]
}

/** With these, each container begins with a copy of its whole image. */
const COPYING_DRIVERS: readonly string[] = ['vfs', 'windowsfilter']

function examineStorage({ storageDriver }: EngineInfo): Omit<Finding, 'check'> {
  if (!COPYING_DRIVERS.includes(storageDriver)) {
    return { result: 'ok', message: `storage driver ${storageDriver}` }
  }
  return {
    result: 'warn',
    message: `storage driver ${storageDriver} copies the whole image for each container: set "storage-driver": "overlay2" in /etc/docker/daemon.json`,
  }
}

function examineCgroups({ cgroupDriver, cgroupVersion }: EngineInfo): Omit<Finding, 'check'> {
  if (cgroupDriver !== 'none') {
    return { result: 'ok', message: `cgroup v${cgroupVersion}, driver ${cgroupDriver}` }
  }
  return {
    result: 'warn',
    message: `the engine has no cgroups (v${cgroupVersion}): memory and CPU of containers are not limited; run it as root, or delegate a cgroup to its user (systemd: Delegate=yes)`,
  }
}

const FREE_BYTES_WARN = 4 * 1024 ** 3

async function examineDisk({ rootDirectory }: EngineInfo): Promise<Omit<Finding, 'check'>> {
  const freeBytes = await freeBytesOf(rootDirectory)
  if (freeBytes === undefined) {
    return {
      result: 'warn',
      message: `${rootDirectory}, where images lie, is not on this machine: the engine must run where the node does`,
    }
  }
  const message = `${formatBytes(freeBytes)} free for images in ${rootDirectory}`
  if (freeBytes >= FREE_BYTES_WARN) return { result: 'ok', message }
  return {
    result: 'warn',
    message: `${message}: runtimes and a build need ${formatBytes(FREE_BYTES_WARN)}; free some ("docker system df" shows what images take)`,
  }
}

async function freeBytesOf(path: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(path)
    return bavail * bsize
  } catch {
    return undefined
  }
}
