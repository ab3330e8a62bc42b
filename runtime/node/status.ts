import { readFileSync } from 'node:fs'
import type { NodeStatus, ProcessStatus } from '../../sdk/model/node-status.ts'
import type { AsyncEvents } from '../async/async-events.ts'
import type { InstanceDriver } from '../pool/driver.ts'
import type { NodeBudget } from '../pool/node-events.ts'
import type { Supervisor } from './supervisor.ts'

export const ISOLA_VERSION: string = readVersion()

export interface NodeParts {
  readonly dataDirectory: string
  readonly httpUrl: string
  readonly controlUrl: string
  readonly baseDomain: string
  readonly generation: number
  readonly budget: NodeBudget
  readonly driver: InstanceDriver
  readonly supervisor: Supervisor
  readonly routerPid: number
  readonly egressPid: number
  /** 0 where none runs. */
  readonly lambdaPid: number
  readonly asyncEvents: Pick<AsyncEvents, 'counts'>
}

/** Every process of the node, with what it uses now. */
export function describeNode(parts: NodeParts): NodeStatus {
  const { driver, supervisor, routerPid, egressPid, lambdaPid, asyncEvents, ...rest } = parts
  const platform = (role: ProcessStatus['role'], pid: number): ProcessStatus[] => {
    const usage = readUsage(pid)
    return usage === undefined ? [] : [{ role, pid, state: 'running', ...usage }]
  }
  return {
    version: ISOLA_VERSION,
    ...rest,
    sandbox: driver.sandbox,
    limits: driver.limits,
    scaling: supervisor.explain(),
    events: [...asyncEvents.counts()].map(([functionName, counts]) => ({ functionName, ...counts })),
    processes: [
      ...platform('agent', process.pid),
      ...platform('router', routerPid),
      ...platform('egress', egressPid),
      ...(lambdaPid > 0 ? platform('lambda', lambdaPid) : []),
      ...supervisor.instances.map((instance): ProcessStatus => ({
        role: 'instance',
        pid: instance.pid,
        state: supervisor.stateOf(instance),
        ...instance.usage(),
        function: instance.functionName,
        version: instance.versionId,
        instance: instance.id,
      })),
      ...driver.blanks().map((blank): ProcessStatus => ({ role: 'blank', state: 'blank', ...blank })),
    ],
  }
}

/** Resident memory and CPU of a process by /proc; `undefined` where it is gone. Clock ticks are 10 ms on Linux. */
function readUsage(pid: number): { memoryBytes: number; cpuMs: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The command name is in parentheses and may hold anything; the fields after it are plain.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const ticks = Number(fields[11]) + Number(fields[12])
    const pages = Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1])
    return { memoryBytes: pages * 4_096, cpuMs: ticks * 10 }
  } catch {
    return undefined
  }
}

function readVersion(): string {
  for (const path of ['../../package.json', '../../../package.json']) {
    try {
      const text = readFileSync(new URL(path, import.meta.url), 'utf8')
      return (JSON.parse(text) as { version: string }).version
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  return 'unknown'
}
