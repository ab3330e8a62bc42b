import { mkdtempSync, rmSync } from 'node:fs'
import type { Server, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { NO_SETTINGS } from '../../sdk/model/settings.ts'
import type { FunctionRecord, Head } from '../../sdk/model/function.ts'
import { EgressHold, type EgressTraffic } from '../../runtime/node/egress-hold.ts'
import { egressLimitsOf } from '../../runtime/node/snapshot.ts'
import { listenForChannels, openChannel, type Channel } from '../../runtime/pool/channel.ts'
import type { AgentToEgress, EgressToAgent, InstanceLoad } from '../../runtime/pool/wire.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

/** The proxy's end: what it was told, and a wait for as many messages of a kind. */
async function startHold() {
  const directory = mkdtempSync(join(tmpdir(), 'isola-hold-'))
  const told: AgentToEgress[] = []
  const traffic: EgressTraffic[] = []
  let changed: () => void = () => undefined
  let channel: Channel<EgressToAgent> | undefined
  let connection: Socket | undefined
  const server: Server = await listenForChannels(join(directory, 'egress.sock'), (socket) => {
    connection = socket
    channel = openChannel<AgentToEgress, EgressToAgent>(socket, {
      onMessage: (message) => {
        told.push(message)
        changed()
      },
      onClose: () => undefined,
    })
    channel.send({ type: 'hello', pid: process.pid })
  })
  const hold = new EgressHold({
    runPath: directory,
    logsPath: directory,
    onLog: () => undefined,
    onEvent: () => undefined,
    onTraffic: (report) => {
      traffic.push(report)
      changed()
    },
  })
  cleanups.push(() => {
    hold.link.detach()
    connection?.destroy()
    server.close()
    rmSync(directory, { recursive: true, force: true })
  })
  await hold.link.start()
  const until = async (isSo: () => boolean): Promise<void> => {
    while (!isSo()) await new Promise<void>((resolve) => (changed = resolve))
  }
  const loads = () => told.flatMap((message) => (message.type === 'load' ? [message.instances] : []))
  return {
    hold,
    told,
    traffic,
    loads,
    until,
    cut: () => connection?.destroy(),
    say: (message: EgressToAgent) => channel?.send(message),
  }
}

const load = (id: string, started: number, inFlight: number): InstanceLoad => ({
  id,
  started,
  inFlight,
  progress: 7,
  paused: false,
})

describe('the agent’s hold on the egress proxy', () => {
  test('passes on of the router’s reports what changed, of instances that have a socket', async () => {
    const { hold, loads, until } = await startHold()
    void hold.listen({ id: 'i1', socketPath: '/i1.sock', uid: 0 }).catch(() => undefined)
    await until(() => loads().length === 1)
    hold.onLoad([load('i1', 1, 1), load('container', 5, 5)])
    // Nothing new of it, but it is at work: the proxy counts the reports it has heard.
    hold.onLoad([load('i1', 1, 1)])
    hold.onLoad([load('i1', 1, 0)])
    // At rest and known: no message.
    hold.onLoad([load('i1', 1, 0)])
    hold.onLoad([load('container', 6, 6)])
    hold.onLoad([load('i1', 2, 0)])
    await until(() => loads().length === 5)
    expect(loads()).toEqual([
      [],
      [{ id: 'i1', started: 1, inFlight: 1 }],
      [],
      [{ id: 'i1', started: 1, inFlight: 0 }],
      [{ id: 'i1', started: 2, inFlight: 0 }],
    ])
  })

  test('tells a proxy that comes back the rules and the numbers of all instances that are still there', async () => {
    const { hold, told, loads, until, cut } = await startHold()
    const rules = {
      allowedCidrs: [],
      ownAddresses: [],
      origins: {},
      limits: { shop: { subrequests: 1, egress: 'none' as const } },
    }
    hold.setRules(rules)
    for (const id of ['i1', 'i2']) {
      void hold.listen({ id, socketPath: `/${id}.sock`, uid: 0 }).catch(() => undefined)
    }
    hold.onLoad([load('i1', 3, 1), load('i2', 4, 0)])
    hold.close('i2')
    await until(() => told.some(({ type }) => type === 'close'))
    told.length = 0
    cut()
    await until(() => loads().length > 0)
    expect(told).toContainEqual({ type: 'rules', rules })
    expect(loads()).toEqual([[{ id: 'i1', started: 3, inFlight: 1 }]])
  })

  test('hands on what went through', async () => {
    const { say, traffic, until } = await startHold()
    const functions = [{ functionName: 'shop', requests: 1, refused: 0, bytesOut: 2, bytesIn: 3 }]
    say({ type: 'traffic', epoch: 'e1', functions })
    await until(() => traffic.length > 0)
    expect(traffic).toEqual([{ epoch: 'e1', functions }])
  })
})

describe('the limits of a head', () => {
  const record = (name: string, limits?: FunctionRecord['limits']) =>
    [name, { name, ...(limits && { limits }) } as FunctionRecord] as const
  const head = (
    functions: readonly (readonly [string, FunctionRecord])[],
    settings?: Head['settings'],
  ): Head => ({
    formatVersion: 1,
    generation: 1,
    writeId: 'w',
    functions: Object.fromEntries(functions),
    ...(settings && { settings }),
  })

  test('are named where they are not the defaults', () => {
    const functions = [
      record('plain'),
      record('few', { subrequests: 5 }),
      record('closed', { egress: 'none' }),
    ]
    expect(egressLimitsOf(head(functions))).toEqual({
      few: { subrequests: 5, egress: 'public' },
      closed: { subrequests: 1_000, egress: 'none' },
    })
  })

  test('come from the fleet where the function has none, and stay below the ceiling', () => {
    const settings = { ...NO_SETTINGS, limits: { egress: ['api.example'] }, ceiling: { subrequests: 50 } }
    const functions = [record('plain'), record('greedy', { subrequests: 900, egress: 'public' })]
    expect(egressLimitsOf(head(functions, settings))).toEqual({
      plain: { subrequests: 50, egress: ['api.example'] },
      greedy: { subrequests: 50, egress: 'public' },
    })
  })
})
