/** The files of one sandbox; the picture is in sandbox-maker.ts. */
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { FUNCTION_USER } from './container-spec.ts'
import { removeDirectory, RUN_FOLDER } from './home.ts'
import { forwarderConfig, FORWARDER_FILES } from './sandbox-config.ts'

export interface SandboxFiles {
  readonly id: string
  /** Who the forwarder runs as: whoever can make a socket where it should be. */
  readonly user: string
  readonly socketDirectory: string
  readonly configDirectory: string
  readonly pinnedSocket: string
  make(options: { readonly port: number }): void
  /** Resolves when the forwarder listens, and its socket is out of its reach. Throws when it ends or takes too long. */
  pinSocket(options: { readonly pid: number }): Promise<void>
  isPinned(): boolean
  /** Never rejects. */
  clear(): Promise<void>
}

const PINNED_SOCKET = 'forward.sock'

export function openSandboxFiles(options: {
  readonly id: string
  readonly runDirectory: string
}): SandboxFiles {
  const directory = join(options.runDirectory, RUN_FOLDER, options.id)
  const socketDirectory = join(directory, 's')
  const configDirectory = join(directory, 'f')
  const pinnedSocket = join(directory, PINNED_SOCKET)
  const isRoot = process.getuid?.() === 0
  // Who is not root can give nothing away, and may link only to what is its own.
  const user = isRoot ? FUNCTION_USER : `${process.getuid?.()}:${process.getgid?.()}`
  return {
    id: options.id,
    user,
    socketDirectory,
    configDirectory,
    pinnedSocket,
    make({ port }) {
      for (const folder of [directory, socketDirectory, configDirectory])
        mkdirSync(folder, { recursive: true })
      // The engine enters by itself, and nobody else but the agent and the router need to.
      chmodSync(directory, 0o700)
      chmodSync(socketDirectory, 0o700)
      chmodSync(configDirectory, 0o755)
      const [uid, gid] = user.split(':').map(Number)
      if (isRoot) chownSync(socketDirectory, uid!, gid!)
      const config = join(configDirectory, FORWARDER_FILES.config)
      writeFileSync(config, forwarderConfig({ port }))
      chmodSync(config, 0o644)
    },
    async pinSocket({ pid }) {
      const socket = join(socketDirectory, FORWARDER_FILES.socket)
      await whenAccepting(socket, pid)
      pin(socket, pinnedSocket)
      // It listens, and has nothing more to make here.
      if (isRoot) chownSync(socketDirectory, 0, 0)
    },
    isPinned: () => lstatSync(pinnedSocket, { throwIfNoEntry: false })?.isSocket() === true,
    clear: () => removeDirectory(directory),
  }
}

async function whenAccepting(socket: string, pid: number): Promise<void> {
  const { sandboxStartTimeoutMs, readinessPollMs } = CONTAINER_LIMITS
  const deadline = performance.now() + sandboxStartTimeoutMs
  while (!(existsSync(socket) && (await accepts(socket)))) {
    if (!existsSync(`/proc/${pid}`)) throw new Error('its forwarder ended before it listened')
    if (performance.now() > deadline) {
      throw new Error(`its forwarder did not listen within ${sandboxStartTimeoutMs} ms`)
    }
    await pause(readinessPollMs)
  }
}

/** A socket's file is there a moment before its owner listens. */
async function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** A hard link does not follow symbolic links: what is linked is what is looked at. */
function pin(source: string, target: string): void {
  rmSync(target, { force: true })
  linkSync(source, target)
  if (lstatSync(target).isSocket()) return
  rmSync(target)
  throw new Error(`${source} is not a socket`)
}
