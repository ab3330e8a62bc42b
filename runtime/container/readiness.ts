/**
 * Whether a function listens, read from the kernel's own table of its network namespace: a request sent to find out
 * would be one that the function sees and logs, and one that fails costs the forwarder a line of log each time.
 */
import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'

/**
 * Resolves when something listens on `port` where 127.0.0.1 reaches it, in the network namespace of process `pid`.
 * Throws `internal` when that process is gone, and the signal's reason when it is aborted.
 */
export async function whenPortListens(options: {
  readonly pid: number
  readonly port: number
  readonly signal: AbortSignal
}): Promise<void> {
  const { pid, port, signal } = options
  for (;;) {
    signal.throwIfAborted()
    // IPv6 may be missing from the kernel, IPv4 not.
    const v4 = await readTable(pid, 'tcp')
    if (v4 === undefined)
      throw new IsolaError('internal', `process ${pid} of the sandbox is gone: start the function again`)
    if (listensOn(v4, port) || listensOn((await readTable(pid, 'tcp6')) ?? '', port)) return
    await pause(CONTAINER_LIMITS.readinessPollMs, undefined, { signal }).catch(() => signal.throwIfAborted())
  }
}

async function readTable(pid: number, name: 'tcp' | 'tcp6'): Promise<string | undefined> {
  return readFile(`/proc/${pid}/net/${name}`, 'latin1').catch(() => undefined)
}

const LISTEN = '0A'
/** As the kernel writes them: words of four bytes, each in the machine's byte order; every machine that runs this is little-endian. */
const REACHED_BY_LOOPBACK = new Set([
  '00000000',
  '0100007F',
  '0'.repeat(32),
  '0000000000000000FFFF00000100007F',
  '0000000000000000FFFF000000000000',
])

/** Whether a table in the form of proc(5) `/proc/net/tcp` has a listener that a connection to 127.0.0.1 would reach. */
export function listensOn(table: string, port: number): boolean {
  const suffix = port.toString(16).toUpperCase().padStart(4, '0')
  return table.split('\n').some((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/)
    const [address = '', localPort] = local.split(':')
    return state === LISTEN && localPort === suffix && REACHED_BY_LOOPBACK.has(address)
  })
}
