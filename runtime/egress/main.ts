import { lookup } from 'node:dns/promises'
import { lstatSync, renameSync, unlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { EGRESS_LIMITS } from '../../sdk/model/limits.ts'
import { listenForChannels, openChannel, type Channel } from '../pool/channel.ts'
import { INNER_DOOR_SOCKET } from '../pool/inner-door.ts'
import type { AgentToEgress, EgressToAgent } from '../pool/wire.ts'
import { EgressProxy } from './egress-proxy.ts'

const { values } = parseArgs({ options: { socket: { type: 'string' } } })
const controlPath = values.socket
if (controlPath === undefined) {
  process.stderr.write('usage: main.ts --socket PATH: where the agent connects\n')
  process.exit(2)
}

let agent: Channel<EgressToAgent> | undefined
const report = (message: string): void => void process.stderr.write(`egress: ${message}\n`)
const proxy = new EgressProxy({
  lookup: (hostname) => lookup(hostname, { all: true }),
  innerDoorPath: join(dirname(controlPath), INNER_DOOR_SOCKET),
  send: (message) => void agent?.send(message),
  onProblem: report,
})

const inode = (path: string): bigint | undefined =>
  lstatSync(path, { throwIfNoEntry: false, bigint: true })?.ino
let ownInode: bigint | undefined

async function stop(): Promise<void> {
  await proxy.close()
  if (ownInode !== undefined && inode(controlPath as string) === ownInode) unlinkSync(controlPath as string)
  process.exit(0)
}

// Bound beside its place and moved there: an exiting process removes the path it bound, and a successor may own it.
const stagingPath = `${controlPath}~`
const server = await listenForChannels(stagingPath, (socket) => {
  const channel = openChannel<AgentToEgress, EgressToAgent>(socket, {
    onMessage(message) {
      if (message.type === 'shutdown') void stop()
      else void proxy.handle(message)
    },
    onClose() {
      if (agent !== channel) return
      agent = undefined
      void proxy.setAgent(false)
    },
  })
  // The newest agent is the one: an older connection is of a process that is gone or going.
  agent?.close()
  agent = channel
  void proxy.setAgent(true)
  channel.send({ type: 'hello', pid: process.pid })
})
server.on('error', (error) => report(`control socket: ${error.message}`))
renameSync(stagingPath, controlPath)
ownInode = inode(controlPath)

// No agent can ever reach a proxy whose control socket is gone, so such a proxy ends itself.
setInterval(() => {
  if (inode(controlPath) !== ownInode) void stop()
}, EGRESS_LIMITS.orphanCheckMs)

setInterval(() => proxy.reportTraffic(), EGRESS_LIMITS.trafficReportMs)

process.on('SIGTERM', () => void stop())
// Ctrl-C reaches the whole terminal; functions that drain still need their way out, so the agent decides.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined)
// One connection's fault must not cut the connections of all other functions.
process.on('uncaughtException', (error) => report(`unexpected: ${error.stack ?? String(error)}`))
