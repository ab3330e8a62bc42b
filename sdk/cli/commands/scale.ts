import type { Policy } from '../../model/policy.ts'
import { type Command, type CommandContext, NODE_FLAGS } from '../command.ts'
import { formatDuration } from '../duration.ts'
import { connectToNode } from '../find-node.ts'

export const scaleCommand: Command = {
  name: 'scale',
  summary: 'show or set how many instances a function has and how requests wait',
  usage: 'FN',
  words: [1, 1],
  flags: {
    min: { type: 'text', value: 'N', help: 'instances kept even when idle' },
    max: { type: 'text', value: 'N', help: 'most instances on a node; 0: as many as the machine has cores' },
    concurrency: { type: 'text', value: 'N', help: 'requests one instance works on at a time' },
    queue: { type: 'text', value: 'N', help: 'requests that may wait; the next one gets 429' },
    'queue-timeout': { type: 'text', value: 'TIME', help: 'longest wait before 503, e.g. 10s' },
    idle: {
      type: 'text',
      value: 'TIME',
      help: 'an instance with nothing to do for this long is stopped, e.g. 5m',
    },
    ...NODE_FLAGS,
  },
  notes: 'Without flags: shows the policy.',
  examples: [
    'isola scale hello',
    'isola scale hello --min 1 --max 4',
    'isola scale hello --queue-timeout 10s --idle 5m',
  ],
  async run(context) {
    const [name = ''] = context.words
    const patch = policyPatch(context)
    const client = await connectToNode(context)
    const record =
      Object.keys(patch).length === 0 ? await client.getFunction(name) : await client.setPolicy(name, patch)
    return {
      document: { functionName: name, policy: record.policy },
      text: formatPolicy(name, record.policy),
    }
  },
}

function policyPatch({ flags }: CommandContext): Partial<Policy> {
  const given = {
    min: flags.integer('min'),
    max: flags.integer('max'),
    concurrency: flags.integer('concurrency'),
    queue: flags.integer('queue'),
    queueTimeoutMs: flags.durationMs('queue-timeout'),
    idleMs: flags.durationMs('idle'),
  }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}

function formatPolicy(name: string, policy: Policy): string {
  return [
    name,
    `  instances    ${policy.min} to ${policy.max === 0 ? 'as many as there are cores' : policy.max}`,
    `  concurrency  ${policy.concurrency} requests an instance`,
    `  queue        ${policy.queue} requests, up to ${formatDuration(policy.queueTimeoutMs)}`,
    `  idle         stopped after ${formatDuration(policy.idleMs)}`,
  ].join('\n')
}
