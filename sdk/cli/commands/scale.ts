import type { PolicyView, SettingsView } from '../../model/control.ts'
import type { ScalingStatus } from '../../model/node-status.ts'
import { mergePolicy, type PolicyChange } from '../../model/policy.ts'
import { type Command, type CommandContext, type CommandResult, NODE_FLAGS } from '../command.ts'
import { connectToNode } from '../find-node.ts'
import { formatTable } from '../output.ts'
import { usageError } from '../parse-arguments.ts'
import { POLICY_FLAGS } from '../policy-fields.ts'
import { formatReason } from '../scaling-reason.ts'
import { formatHistory, readChange, settingFlags, settingRows } from '../setting-fields.ts'
import { shortId } from '../shares.ts'

export const scaleCommand: Command = {
  name: 'scale',
  summary: 'show or set how many instances a function has and how requests wait',
  usage: 'FN | --fleet',
  words: [0, 1],
  flags: {
    ...settingFlags(POLICY_FLAGS),
    fleet: { type: 'boolean', help: 'the policy of every function that does not say otherwise' },
    ...NODE_FLAGS,
  },
  notes: [
    'Without flags: shows the policy, where each field is from, and why there are as many instances as there are.',
    'What is set for a function lies over what is set for the fleet; a change is in force when the command returns.',
  ].join('\n'),
  examples: [
    'isola scale hello',
    'isola scale hello --min 1 --max 8 --concurrency 50 --idle 5m --pause 2s',
    'isola scale hello --queue 200 --queue-timeout 10s --rate 500/s --burst 1000 --weight 2',
    'isola scale hello --idle auto --prewarm "0 8 * * mon-fri = 3 for 2h"',
    'isola scale hello --unset rate,burst',
    'isola scale --fleet --max 4',
    'isola scale hello --history',
  ],
  async run(context) {
    const [name] = context.words
    const change = readChange(POLICY_FLAGS, context.flags) as PolicyChange
    if (name !== undefined && context.flags.has('fleet')) {
      throw usageError(`isola scale takes a function or --fleet, not both: leave out "${name}" or --fleet`)
    }
    if (name !== undefined) return await scaleFunction(context, name, change)
    if (context.flags.has('fleet')) return await scaleFleet(context, change)
    throw usageError('isola scale needs more: isola scale FN, or isola scale --fleet')
  },
}

async function scaleFunction(
  context: CommandContext,
  name: string,
  change: PolicyChange,
): Promise<CommandResult> {
  const client = await connectToNode(context)
  const view =
    Object.keys(change).length === 0 ? await client.getPolicy(name) : await client.setPolicy(name, change)
  if (!context.flags.has('history')) return { document: view, text: formatView(view) }
  const { changes } = view
  return { document: { functionName: name, changes }, text: formatHistory(POLICY_FLAGS, changes) }
}

async function scaleFleet(context: CommandContext, change: PolicyChange): Promise<CommandResult> {
  const client = await connectToNode(context)
  const view: SettingsView =
    Object.keys(change).length === 0
      ? await client.getSettings()
      : await client.setSettings({ policy: change })
  if (context.flags.has('history')) {
    const changes = view.changes.filter(({ what }) => what === 'policy')
    return { document: { changes }, text: formatHistory(POLICY_FLAGS, changes) }
  }
  const rows = settingRows(POLICY_FLAGS, mergePolicy(view.policy), [['fleet', view.policy]])
  return { document: view, text: formatTable(HEADINGS, rows) }
}

const HEADINGS = ['FIELD', 'VALUE', 'FROM']

function formatView({ policy, set, fleet, scaling }: PolicyView): string {
  const rows = settingRows(POLICY_FLAGS, policy, [
    ['function', set],
    ['fleet', fleet],
  ])
  return [formatTable(HEADINGS, rows), '', formatScaling(scaling)].join('\n')
}

/** The averages are of requests in flight and waiting, over the two windows that the scaler decides by. */
function formatScaling(scaling: readonly ScalingStatus[]): string {
  if (scaling.length === 0) return 'no instances on this node, and none wanted'
  const headings = ['VERSION', 'WANTED', 'RUNNING', 'PAUSED', 'STARTING', 'LOAD', 'LOAD NOW', 'WHY']
  return formatTable(
    headings,
    scaling.map((version) => [
      shortId(version.versionId),
      String(version.desired),
      String(version.running),
      String(version.paused),
      String(version.starting),
      version.stableConcurrency.toFixed(2),
      `${version.panicConcurrency.toFixed(2)}${version.panicking ? ' (surge)' : ''}`,
      formatReason(version),
    ]),
  )
}
