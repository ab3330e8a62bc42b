import type { NodeStatus, ProcessStatus, ScalingStatus } from '../../model/node-status.ts'
import { type Command, NODE_FLAGS } from '../command.ts'
import { connectToNode } from '../find-node.ts'
import { formatBytes, formatTable } from '../output.ts'
import { formatReason } from '../scaling-reason.ts'
import { shortId } from '../shares.ts'

export const statusCommand: Command = {
  name: 'status',
  summary: 'show a node and every process of it',
  usage: '',
  words: [0, 0],
  flags: NODE_FLAGS,
  examples: ['isola status', 'isola status --json | jq \'.processes[] | select(.role == "instance")\''],
  async run(context) {
    const client = await connectToNode(context)
    const status = await client.status()
    return { document: status, text: formatStatus(status) }
  },
}

function formatStatus(status: NodeStatus): string {
  return [
    `isola ${status.version}, generation ${status.generation}`,
    `  http      ${status.httpUrl} (functions answer on <function>.${status.baseDomain})`,
    `  control   ${status.controlUrl}`,
    `  data      ${status.dataDirectory}`,
    `  sandbox   ${status.sandbox}`,
    `  limits    ${status.limits}`,
    `  budget    ${formatBudget(status.budget)}`,
    '',
    formatTable(
      ['ROLE', 'PID', 'STATE', 'FUNCTION', 'VERSION', 'INSTANCE', 'MEMORY', 'CPU'],
      status.processes.map(processRow),
    ),
    ...(status.scaling.length === 0
      ? []
      : ['', formatTable(['FUNCTION', 'VERSION', 'INSTANCES', 'REASON'], status.scaling.map(scalingRow))]),
    ...(status.events.length === 0
      ? []
      : [
          '',
          formatTable(
            ['FUNCTION', 'EVENTS WAITING', 'DEAD LETTERS'],
            status.events.map(({ functionName, waiting, dead }) => [
              functionName,
              String(waiting),
              String(dead),
            ]),
          ),
        ]),
  ].join('\n')
}

export function formatBudget({ memoryMib, cpus }: NodeStatus['budget']): string {
  return `${memoryMib} MiB and ${cpus} ${cpus === 1 ? 'processor' : 'processors'} for instances together`
}

function scalingRow(scaling: ScalingStatus): readonly string[] {
  const { running, paused, starting, desired } = scaling
  const counts = [
    `${running} running`,
    ...(paused > 0 ? [`${paused} paused`] : []),
    ...(starting > 0 ? [`${starting} starting`] : []),
    ...(desired === running + paused + starting ? [] : [`${desired} wanted`]),
  ]
  return [scaling.functionName, shortId(scaling.versionId), counts.join(', '), formatReason(scaling)]
}

function processRow(process: ProcessStatus): readonly string[] {
  return [
    process.role,
    String(process.pid),
    process.state,
    process.function ?? '-',
    process.version === undefined ? '-' : shortId(process.version),
    process.instance ?? '-',
    formatBytes(process.memoryBytes),
    `${(process.cpuMs / 1000).toFixed(2)} s`,
  ]
}
