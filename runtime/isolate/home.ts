/**
 * Everything of an instance but its process: directory, socket directory, cgroup, user id, log files, egress socket.
 * Made before the process, cleared after it; the user id goes back only then, so that no two ever share one.
 *
 *   <run>/i/<id>/instance.json          what the next agent must know
 *   <run>/i/<id>/{stdout,stderr}.log    out of the instance's sight
 *   <run>/i/<id>/{http,control,rpc}.sock    hard links: nothing the instance does in its own directory changes them
 *   <run>/i/<id>/s/                     the instance's: sockets, and nothing else it can write to
 */
import { chmodSync, chownSync, linkSync, lstatSync, mkdirSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { INSTANCE_SOCKETS } from './config.ts'
import type { Cgroup } from '../machine/cgroup.ts'
import { openInstanceLogs, type InstanceLogs } from './instance-logs.ts'

/** The way out of an instance. Listening on what is listened on already changes nothing. */
export interface EgressPort {
  listen(socket: { readonly id: string; readonly socketPath: string; readonly uid: number }): Promise<void>
  /** `services`: functions that it may call by a service binding. */
  assign(id: string, functionName: string, services: readonly string[]): void
  close(id: string): void
}

export interface Home {
  readonly id: string
  readonly uid: number
  readonly directory: string
  readonly socketDirectory: string
  readonly httpSocket: string
  readonly controlSocket: string
  readonly cgroup: Cgroup | undefined
  readonly logs: InstanceLogs
  /** Settles once connections out would be taken. */
  readonly egressReady: Promise<void>
  /** Puts the sockets that the instance has made beyond its reach. */
  pinSockets(): void
  /** Removes it all, after the process has ended. Never rejects. */
  clear(): Promise<void>
}

export interface HomeOptions {
  readonly id: string
  readonly uid: number
  readonly directory: string
  readonly cgroup: Cgroup | undefined
  readonly egress: EgressPort
  /** True for an instance that is there already. */
  readonly adopted: boolean
  /** Called at the end of `clear`. */
  readonly onCleared: () => void
}

export const SOCKET_FOLDER = 's'

export function openHome(options: HomeOptions): Home {
  const { id, uid, directory, cgroup, egress } = options
  const socketDirectory = join(directory, SOCKET_FOLDER)
  if (!options.adopted) makeDirectories(socketDirectory, uid)
  const logs = openInstanceLogs(directory)
  const egressReady = egress.listen({ id, uid, socketPath: join(socketDirectory, INSTANCE_SOCKETS.egress) })
  // Whoever starts the instance awaits it; a blank that nobody claims must not end the agent.
  egressReady.catch(() => undefined)
  const httpSocket = join(directory, INSTANCE_SOCKETS.http)
  const controlSocket = join(directory, INSTANCE_SOCKETS.control)
  return {
    id,
    uid,
    directory,
    socketDirectory,
    httpSocket,
    controlSocket,
    cgroup,
    logs,
    egressReady,
    pinSockets() {
      pinSocket(join(socketDirectory, INSTANCE_SOCKETS.http), httpSocket)
      pinSocket(join(socketDirectory, INSTANCE_SOCKETS.control), controlSocket)
      pinSocket(join(socketDirectory, INSTANCE_SOCKETS.rpc), join(directory, INSTANCE_SOCKETS.rpc))
    },
    async clear() {
      egress.close(id)
      logs.close()
      cgroup?.kill()
      await removeCgroup(cgroup)
      await removeDirectory(directory)
      options.onCleared()
    },
  }
}

/** The sticky bit keeps the instance from removing what others put there: the egress socket. */
function makeDirectories(socketDirectory: string, uid: number): void {
  mkdirSync(socketDirectory, { recursive: true, mode: 0o700 })
  const own = process.getuid?.() ?? uid
  if (uid === own) return
  chownSync(socketDirectory, own, uid)
  chmodSync(socketDirectory, 0o1770)
}

/** A hard link does not follow symbolic links: what is linked is what we look at. */
function pinSocket(source: string, target: string): void {
  linkSync(source, target)
  if (lstatSync(target).isSocket()) return
  rmSync(target)
  throw new Error(`${source} is not a socket`)
}

/** The egress proxy may just be putting a socket there. What cannot be removed now is cleared by the next adoption. */
async function removeDirectory(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 }).catch(() => undefined)
}

/** The kernel may still be taking a process apart that its parent has reaped. */
export async function removeCgroup(cgroup: Cgroup | undefined): Promise<void> {
  const deadline = performance.now() + INSTANCE_LIMITS.removeTimeoutMs
  while (cgroup?.remove() === false && performance.now() < deadline) {
    cgroup.kill()
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
