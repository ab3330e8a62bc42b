/**
 * A started workerd that waits for its configuration on stdin. All the slow parts of a start lie before that point:
 * sandbox, cgroup, loading a 160 MB binary. Should the agent die, stdin ends and the blank ends with it.
 */
import { spawn } from 'node:child_process'
import { closeSync, writeSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { Home } from './home.ts'
import {
  identifyProcess,
  ownProcess,
  type ProcessHandle,
  type ProcessIdentity,
} from '../machine/process-handle.ts'
import { writeRecord } from './record.ts'
import { SANDBOX_PATH, type Sandbox } from './sandbox.ts'
import { blankArguments } from './workerd.ts'

export interface Blank {
  readonly home: Home
  readonly process: ProcessHandle
  readonly identity: ProcessIdentity
  /** Hands the configuration over. Only once. */
  configure(config: Uint8Array): void
  /** Settles when workerd has said of each of the sockets that it listens; never, if it does not. */
  listening(sockets: readonly string[]): Promise<void>
}

const CONTROL_FD = 3

/** Throws where the process cannot be made; the home is then the caller's to clear. */
export function startBlank(home: Home, sandbox: Sandbox): Blank {
  const [command, ...commandArguments] = sandbox.command({
    socketDirectory: home.socketDirectory,
    uid: home.uid,
    processFiles: home.cgroup?.processFiles ?? [],
    workerdArguments: blankArguments({ controlFd: CONTROL_FD }),
  })
  const logs = home.logs.openForAppending()
  const child = spawn(command!, commandArguments, {
    cwd: home.socketDirectory,
    // Times are UTC in every instance; nothing else of our environment is a function's business.
    env: { PATH: SANDBOX_PATH, TZ: 'UTC' },
    stdio: ['pipe', logs.stdout, logs.stderr, 'pipe'],
    // A session of its own: Ctrl-C in the agent's terminal is for the agent, which drains before it stops instances.
    detached: true,
  })
  const failed = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      writeSync(logs.stderr, `${error.message}\n`)
      resolve()
    })
    child.once('spawn', resolve)
  })
  void failed.then(() => {
    closeSync(logs.stdout)
    closeSync(logs.stderr)
  })
  const { pid } = child
  const identity = pid === undefined ? undefined : identifyProcess(pid)
  if (pid === undefined || identity === undefined) throw new Error(`${command} could not be started`)

  const stdin = child.stdin as Writable
  // A process that ends before it has read everything: its exit tells more.
  stdin.on('error', () => undefined)
  const sockets = readListening(child.stdio[CONTROL_FD] as Readable)
  writeRecord(home.directory, {
    formatVersion: 1,
    id: home.id,
    process: identity,
    uid: home.uid,
    ...(home.cgroup === undefined ? {} : { cgroup: home.cgroup.directories }),
  })
  return {
    home,
    identity,
    process: ownProcess(Object.assign(child, { pid })),
    configure: (config) => void stdin.end(config),
    listening: sockets,
  }
}

/** workerd writes `{"event":"listen","socket":<name>,…}` a line; without more to say it keeps the descriptor open. */
function readListening(control: Readable): (names: readonly string[]) => Promise<void> {
  const seen = new Set<string>()
  let notify = (): void => undefined
  let text = ''
  control.setEncoding('utf8')
  control.on('error', () => undefined)
  control.on('data', (chunk: string) => {
    text += chunk
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n')) {
      const line = text.slice(0, end)
      text = text.slice(end + 1)
      const name = /"socket":\s*"(\w+)"/.exec(line)?.[1]
      if (name !== undefined) seen.add(name)
    }
    // The descriptor is inside the sandbox: whatever comes there stays within bounds.
    if (text.length > INSTANCE_LIMITS.controlAnswerBytesMax) control.destroy()
    notify()
  })
  return (names) =>
    new Promise((resolve) => {
      notify = () => {
        if (names.every((name) => seen.has(name))) resolve()
      }
      notify()
    })
}
