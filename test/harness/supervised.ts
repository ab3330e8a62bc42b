/** A supervisor on a driver that starts nothing and a router that is a list of messages; time is in the test's hands. */
import { vi } from 'vitest'
import { Supervisor } from '../../runtime/node/supervisor.ts'
import type { ExitReport, Instance, InstanceDriver, StartOptions } from '../../runtime/pool/driver.ts'
import type { AgentToRouter, InstanceLoad } from '../../runtime/pool/wire.ts'
import type { FunctionLimitsPatch } from '../../sdk/model/function-limits.ts'
import type { Head, Version, VersionLimits } from '../../sdk/model/function.ts'
import type { ExitCause } from '../../sdk/model/node-status.ts'
import type { PolicyPatch } from '../../sdk/model/policy.ts'
import { NO_SETTINGS, type FleetSettings } from '../../sdk/model/settings.ts'
import { guestVersion } from './guest-instance.ts'

export interface FakeInstance extends Instance {
  end(report: ExitReport): void
  cpuMs: number
  memoryBytes: number
  pending: number
  readonly startedWith: Partial<StartOptions>
  weight: number
  memoryRank?: string
}

export interface HeadOptions extends PolicyPatch {
  readonly limits?: FunctionLimitsPatch
  readonly settings?: Partial<FleetSettings>
}

export class Supervised {
  readonly supervisor: Supervisor
  readonly started: FakeInstance[] = []
  told: AgentToRouter[] = []
  readonly events: string[] = []
  blanks = 0
  /** Starts that the test lets go on one by one; undefined: at once. */
  gates: (() => void)[] | undefined
  startError: Error | undefined
  /** What versions ask for themselves. */
  asked: Record<string, Partial<VersionLimits>> = {}
  /** What an earlier agent left. */
  adopted: FakeInstance[] = []
  routerIsThere = true

  constructor(budget = { memoryMib: 1_000, cpus: 3 }) {
    const driver: InstanceDriver = {
      sandbox: 'none',
      limits: 'none',
      adopt: () => Promise.resolve(this.adopted),
      keepBlanks: (_, count) => {
        this.blanks = count
      },
      blanks: () => [],
      pids: () => [],
      foresee: () => ({ reserveMib: 20, blankClass: 'worker' }),
      close: () => Promise.resolve(),
      start: async (version, options = {}) => {
        if (this.gates !== undefined) await new Promise<void>((resolve) => this.gates!.push(resolve))
        if (this.startError !== undefined) throw this.startError
        const instance = fakeInstance(version, `i${this.started.length}`, options)
        this.started.push(instance)
        return instance
      },
    }
    this.supervisor = new Supervisor({
      driver,
      budget,
      getVersion: (functionName, versionId) => Promise.resolve(this.version(functionName, versionId)),
      tellRouter: (message) => {
        if (!this.routerIsThere) return false
        this.told.push(message)
        if (message.type === 'instance-drain') queueMicrotask(() => this.supervisor.onDrained(message.id))
        return true
      },
      onEvent: (line) => this.events.push(line),
    })
  }

  /** Of `a` and `v-a` by convention. */
  version(functionName: string, id = `v-${functionName}`): Version {
    const { version } = guestVersion({ modules: { 'index.js': '' } })
    return { ...version, functionName, id, content: { ...version.content, limits: this.asked[id] ?? {} } }
  }

  /** Functions that all have one policy and one live version, `v-<name>`, and a preview of `p-<name>`. */
  apply({ limits, settings, ...policy }: HeadOptions, ...names: string[]): void {
    const functions = Object.fromEntries(
      names.map((name) => [
        name,
        {
          name,
          policy,
          limits,
          recentVersionIds: [`v-${name}`, `p-${name}`],
          previewHosts: true,
          deployment: { shares: [{ versionId: `v-${name}`, percent: 100 }] },
        },
      ]),
    )
    const head = { generation: 1, functions, settings: { ...NO_SETTINGS, ...settings } }
    this.supervisor.applyHead(head as unknown as Head)
  }

  need(functionName: string, queued: number, versionId = `v-${functionName}`): void {
    this.supervisor.onNeed({ type: 'need', functionName, versionId, queued })
  }

  /** So many requests in flight, shared evenly by the instances of the function. */
  load(functionName: string, inFlight: number, instance: Partial<InstanceLoad> = {}): void {
    const busy = this.alive(functionName)
    const versionId = `v-${functionName}`
    this.supervisor.onLoad(
      busy.map(({ id }) => ({
        id,
        inFlight: inFlight / busy.length,
        progress: 1,
        started: 1,
        paused: false,
        ...instance,
      })),
      [{ functionName, versionId, inFlight, queued: 0, requests: 1, concurrency: inFlight }],
    )
  }

  alive(functionName: string): FakeInstance[] {
    return this.started.filter((each) => each.functionName === functionName && each.exit === undefined)
  }

  toldOf<T extends AgentToRouter['type']>(type: T): Extract<AgentToRouter, { type: T }>[] {
    return this.told.filter(
      (message): message is Extract<AgentToRouter, { type: T }> => message.type === type,
    )
  }

  async close(): Promise<void> {
    const closing = this.supervisor.close(0)
    await vi.advanceTimersByTimeAsync(1_000)
    await closing
  }
}

export function fakeInstance(
  version: Version,
  id: string,
  startedWith: Partial<StartOptions> = {},
): FakeInstance {
  const { promise, resolve } = Promise.withResolvers<ExitReport>()
  let exit: ExitReport | undefined
  const end = (report: ExitReport): void => {
    exit ??= report
    resolve(exit)
  }
  const instance: FakeInstance = {
    id,
    functionName: version.functionName,
    versionId: version.id,
    pid: 0,
    socketPath: '',
    startedAtMs: 0,
    memoryMib: startedWith.memoryMib ?? 128,
    freezer: { file: `/freezer/${id}`, frozen: 'FROZEN', thawed: 'THAWED' },
    state: 'running',
    cpuMs: 0,
    memoryBytes: 0,
    pending: 0,
    startedWith,
    weight: 100,
    exited: promise,
    get exit() {
      return exit
    },
    setCpuWeight: (weight) => {
      instance.weight = weight
    },
    setMemoryRank: (rank) => {
      instance.memoryRank = rank
    },
    usage: () => ({ cpuMs: instance.cpuMs, memoryBytes: instance.memoryBytes }),
    pendingWork: () => Promise.resolve(instance.pending),
    stop() {
      end({ cause: 'stopped', message: '' })
      return promise
    },
    kill: (cause: ExitCause, message: string = cause) => end({ cause, message }),
    end,
  }
  return instance
}
