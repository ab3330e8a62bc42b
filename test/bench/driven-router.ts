/** The real router process, with the bench in the agent's place: one function, one instance, which is the origin. */
import { join } from 'node:path'
import { connectToChannel, openChannel } from '../../runtime/pool/channel.ts'
import type { AgentToRouter, RouterToAgent } from '../../runtime/pool/wire.ts'
import { DEFAULT_FUNCTION_LIMITS } from '../../sdk/model/function-limits.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import type { Target } from './peers.ts'
import { spawnProcess } from './spawned-process.ts'

export interface DrivenRouter extends Target {
  /** Log lines received so far, and those the router had to drop. */
  logged(): { readonly lines: number; readonly dropped: number }
}

const VERSION_ID = 'b'.repeat(32)

export async function startRouter(options: {
  readonly directory: string
  readonly socketPath: string
  /** For the router's own Node, e.g. `--cpu-prof`. */
  readonly nodeArguments?: readonly string[]
}): Promise<DrivenRouter> {
  const control = join(options.directory, 'router.sock')
  const main = join(import.meta.dirname, '../../router/main.ts')
  const argv = [...(options.nodeArguments ?? []), main, '--socket', control, '--http', '127.0.0.1:0']
  const router = spawnProcess(process.execPath, argv, { workingDirectory: options.directory })
  let port = 0
  let lines = 0
  let dropped = 0
  const applied = Promise.withResolvers<void>()
  const socket = await connectToChannel(control, 10_000).catch((cause: unknown) => {
    throw new Error(`the router does not listen on ${control}; it said:\n${router.output()}`, { cause })
  })
  const channel = openChannel<RouterToAgent, AgentToRouter>(socket, {
    onMessage(message) {
      if (message.type === 'hello') port = message.httpPort
      else if (message.type === 'applied') applied.resolve()
      else if (message.type === 'log') {
        lines += message.lines.length
        dropped += message.dropped
      }
    },
    onClose: () => applied.reject(new Error(`the router ended:\n${router.output()}`)),
  })
  channel.send({
    type: 'snapshot',
    snapshot: {
      generation: 1,
      baseDomain: 'localhost',
      functions: [
        {
          name: 'bench',
          kind: 'worker',
          shares: [{ versionId: VERSION_ID, percent: 100 }],
          patterns: ['bench.example/*', 'bench.example/admin/*', '*.bench.example/*'],
          baseDomainHost: true,
          previewVersionIds: [VERSION_ID],
          policy: { ...DEFAULT_POLICY, concurrency: 1_000 },
          limits: DEFAULT_FUNCTION_LIMITS,
        },
      ],
    },
  })
  channel.send({
    type: 'instances',
    instances: [
      { id: 'bench-1', functionName: 'bench', versionId: VERSION_ID, socketPath: options.socketPath },
    ],
  })
  await applied.promise
  return { name: 'isola', port, pid: router.pid, process: router, logged: () => ({ lines, dropped }) }
}
