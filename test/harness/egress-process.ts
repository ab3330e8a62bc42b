import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connectToChannel, openChannel, type Channel } from '../../runtime/pool/channel.ts'
import type { AgentToEgress, EgressRules, EgressToAgent } from '../../runtime/pool/wire.ts'
import { LOOPBACK_RULES, temporaryDirectory } from './egress.ts'

export const EGRESS_MAIN = fileURLToPath(new URL('../../runtime/egress/main.ts', import.meta.url))
const UID = process.getuid?.() ?? 0

/** Takes what is to be done after the test, last first. */
type OnCleanup = (cleanup: () => unknown) => void

interface ProcessOptions {
  readonly environment?: Record<string, string>
  readonly directory?: string
}

/** The agent's end: what it was told, in order, and a wait for the next of a kind. */
export class Agent {
  readonly channel: Channel<AgentToEgress>
  readonly messages: EgressToAgent[] = []
  #wake: () => void = () => undefined

  constructor(socket: Socket) {
    this.channel = openChannel<EgressToAgent, AgentToEgress>(socket, {
      onMessage: (message) => {
        this.messages.push(message)
        this.#wake()
      },
      onClose: () => this.#wake(),
    })
  }

  async next<Type extends EgressToAgent['type']>(
    type: Type,
  ): Promise<Extract<EgressToAgent, { type: Type }>> {
    for (;;) {
      const index = this.messages.findIndex((message) => message.type === type)
      const [found] = index === -1 ? [] : this.messages.splice(index, 1)
      if (found !== undefined) return found as Extract<EgressToAgent, { type: Type }>
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}

export interface EgressProcess {
  readonly child: ChildProcess
  readonly directory: string
  readonly controlPath: string
  readonly socketPath: string
  stderr(): string
  attach(): Promise<Agent>
}

export function startProcess(
  onCleanup: OnCleanup,
  { environment = {}, directory = temporaryDirectory() }: ProcessOptions = {},
): EgressProcess {
  const controlPath = join(directory, 'control.sock')
  const child = spawn(process.execPath, [EGRESS_MAIN, '--socket', controlPath], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...environment },
  })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  onCleanup(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    rmSync(directory, { recursive: true, force: true })
  })
  const attach = async (): Promise<Agent> => {
    const agent = new Agent(await connectToChannel(controlPath, 20_000))
    onCleanup(() => agent.channel.close())
    assert.deepEqual(await agent.next('hello'), { type: 'hello', pid: child.pid })
    return agent
  }
  return {
    child,
    directory,
    controlPath,
    socketPath: join(directory, 'i1.sock'),
    attach,
    stderr: () => stderr,
  }
}

/** A process with instance "i1" of function "shop" in place. */
export async function startReady(
  onCleanup: OnCleanup,
  options: ProcessOptions & { rules?: EgressRules } = {},
) {
  const egress = startProcess(onCleanup, options)
  const agent = await egress.attach()
  agent.channel.send({ type: 'rules', rules: options.rules ?? LOOPBACK_RULES })
  const { socketPath } = egress
  agent.channel.send({ type: 'sockets', sockets: [{ id: 'i1', socketPath, uid: UID, functionName: 'shop' }] })
  await agent.next('listening')
  return { ...egress, agent }
}
