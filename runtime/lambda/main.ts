/** `node runtime/lambda/main.ts --socket PATH` */
import { renameSync, unlinkSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'
import { listenForChannels, openChannel, type Channel } from '../pool/channel.ts'
import { LambdaProcess } from './lambda-process.ts'
import { inodeOf } from './socket-file.ts'
import type { AgentToLambda, LambdaToAgent } from './wire.ts'

const { values } = parseArgs({
  options: {
    socket: { type: 'string' },
    'agent-wait-ms': { type: 'string', default: String(LAMBDA_LIMITS.agentWaitMs) },
  },
})
const controlPath = values.socket
const agentWaitMs = Number(values['agent-wait-ms'])
if (controlPath === undefined || !(agentWaitMs > 0)) {
  process.stderr.write('usage: main.ts --socket PATH [--agent-wait-ms MS]: where the agent connects\n')
  process.exit(2)
}

let agent: Channel<LambdaToAgent> | undefined
const report = (message: string): void => void process.stderr.write(`lambda: ${message}\n`)
const lambda = new LambdaProcess({
  send: (message) => agent?.send(message) ?? false,
  onProblem: report,
})
let ownInode: bigint | undefined

function stop(): void {
  lambda.close()
  if (ownInode !== undefined && inodeOf(controlPath as string) === ownInode) unlinkSync(controlPath as string)
  process.exit(0)
}

const neverMet = setTimeout(() => {
  report(`no agent has connected within ${agentWaitMs} ms: ending`)
  stop()
}, agentWaitMs)

// Bound beside its place and moved there: an exiting process removes the path it bound, and a successor may own it.
const stagingPath = `${controlPath}~`
const server = await listenForChannels(stagingPath, (socket) => {
  clearTimeout(neverMet)
  const channel = openChannel<AgentToLambda, LambdaToAgent>(socket, {
    onMessage(message) {
      if (message.type === 'shutdown') stop()
      else lambda.handle(message)
    },
    onClose() {
      if (agent === channel) agent = undefined
    },
  })
  // The newest agent is the one: an older connection is of a process that is gone or going.
  agent?.close()
  agent = channel
  channel.send({ type: 'hello', pid: process.pid })
  lambda.tellAll()
})
server.on('error', (error) => report(`control socket: ${error.message}`))
renameSync(stagingPath, controlPath)
ownInode = inodeOf(controlPath)

// No agent can ever reach a process whose control socket is gone, so such a process ends itself.
setInterval(() => {
  if (inodeOf(controlPath) !== ownInode) stop()
}, LAMBDA_LIMITS.orphanCheckMs)

process.on('SIGTERM', stop)
// Ctrl-C reaches the whole terminal; functions that drain still need their events, so the agent decides.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined)
// One environment's fault must not end the invocations of all others.
process.on('uncaughtException', (error) => report(`unexpected: ${error.stack ?? String(error)}`))
