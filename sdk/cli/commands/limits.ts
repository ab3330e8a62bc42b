import type { HeldLimit, LimitsView, SettingsView } from '../../model/control.ts'
import {
  FUNCTION_LIMIT_BOUNDS,
  mergeFunctionLimits,
  type FunctionLimits,
  type FunctionLimitsCeiling,
  type FunctionLimitsCeilingChange,
  type FunctionLimitsChange,
  type FunctionLimitsPatch,
} from '../../model/function-limits.ts'
import { type Command, type CommandContext, type CommandResult, NODE_FLAGS } from '../command.ts'
import { connectToNode } from '../find-node.ts'
import { LIMIT_FLAGS } from '../limit-fields.ts'
import { formatTable } from '../output.ts'
import { usageError } from '../parse-arguments.ts'
import { formatHistory, readChange, settingFlags, settingRows, type SettingField } from '../setting-fields.ts'
import { shortId } from '../shares.ts'

export const limitsCommand: Command = {
  name: 'limits',
  summary: 'show or set what a function may use: CPU, time, memory, subrequests, sizes, egress',
  usage: 'FN | --fleet | --ceiling',
  words: [0, 1],
  flags: {
    ...settingFlags(LIMIT_FLAGS),
    fleet: { type: 'boolean', help: 'the limits of every function that does not say otherwise' },
    ceiling: { type: 'boolean', help: 'above which no function of the fleet may be' },
    ...NODE_FLAGS,
  },
  notes: [
    "Without flags: shows each limit, where it is from, and the fleet's ceiling.",
    'What is set here for a function lies over what its version asks for (limits.cpu_ms), and that over the fleet.',
    'A size is 512K, 10MB or 1GiB: K, M, G and KiB, MiB, GiB are powers of 1024, KB, MB and GB powers of 1000.',
  ].join('\n'),
  examples: [
    'isola limits hello',
    'isola limits hello --cpu 500ms --wall 30s --memory 256',
    'isola limits hello --request-body 10MB --response-body 50MB --logs 1MB --subrequests 50',
    "isola limits hello --egress 'api.example.com,*.example.org'",
    'isola limits hello --unset memory,egress',
    'isola limits --fleet --memory 128',
    'isola limits --ceiling --cpu 30s --memory 512',
    'isola limits hello --history',
  ],
  async run(context) {
    const { flags, words } = context
    const targets = [...words, ...(['fleet', 'ceiling'] as const).filter((flag) => flags.has(flag))]
    const change = readChange(LIMIT_FLAGS, flags)
    if (targets.length > 1) {
      throw usageError('isola limits takes one of a function, --fleet and --ceiling: leave out the others')
    }
    const [name] = words
    if (name !== undefined) return await limitFunction(context, name, change)
    if (flags.has('fleet')) return await limitFleet(context, change)
    if (flags.has('ceiling')) return await setCeiling(context, change)
    throw usageError(
      'isola limits needs more: isola limits FN, isola limits --fleet or isola limits --ceiling',
    )
  },
}

async function limitFunction(
  context: CommandContext,
  name: string,
  change: FunctionLimitsChange,
): Promise<CommandResult> {
  const client = await connectToNode(context)
  const view =
    Object.keys(change).length === 0 ? await client.getLimits(name) : await client.setLimits(name, change)
  if (!context.flags.has('history')) return { document: view, text: formatView(view) }
  const { changes } = view
  return { document: { functionName: name, changes }, text: formatHistory(LIMIT_FLAGS, changes) }
}

async function limitFleet(context: CommandContext, change: FunctionLimitsChange): Promise<CommandResult> {
  const view = await settings(context, change, 'limits')
  if (context.flags.has('history')) return history(view, 'limits')
  const { limits, ceiling } = view
  const text = formatLimits(mergeFunctionLimits(ceiling, limits), [['fleet', limits]], ceiling)
  return { document: view, text }
}

async function setCeiling(
  context: CommandContext,
  change: FunctionLimitsCeilingChange & { egress?: unknown },
): Promise<CommandResult> {
  if (change.egress !== undefined) {
    throw usageError('a ceiling has no --egress: set it with --fleet, or for a function')
  }
  const view = await settings(context, change, 'ceiling')
  if (context.flags.has('history')) return history(view, 'ceiling')
  const fields = Object.keys(FUNCTION_LIMIT_BOUNDS) as (keyof FunctionLimitsCeiling)[]
  const rows = fields.map((field) => [
    LIMIT_FLAGS[field].flag,
    LIMIT_FLAGS[field].format(view.ceiling[field] ?? FUNCTION_LIMIT_BOUNDS[field][1]),
    view.ceiling[field] === undefined ? 'isola' : 'fleet',
  ])
  const held = view.held.length === 0 ? [] : ['', 'held down to it:', ...view.held.map(formatHeld)]
  return { document: view, text: [formatTable(['LIMIT', 'AT MOST', 'FROM'], rows), ...held].join('\n') }
}

async function settings(
  context: CommandContext,
  change: object,
  what: 'limits' | 'ceiling',
): Promise<SettingsView> {
  const client = await connectToNode(context)
  return Object.keys(change).length === 0
    ? await client.getSettings()
    : await client.setSettings({ [what]: change })
}

function history(view: SettingsView, what: 'limits' | 'ceiling'): CommandResult {
  const changes = view.changes.filter((change) => change.what === what)
  return { document: { changes }, text: formatHistory(LIMIT_FLAGS, changes) }
}

function formatView({ limits, set, versions, fleet, ceiling }: LimitsView): string {
  const [first, ...others] = versions
  const table = formatLimits(
    limits,
    [
      ['function', set],
      [`version ${shortId(first?.versionId ?? '')}`, first?.limits ?? {}],
      ['fleet', fleet],
    ],
    ceiling,
  )
  const asking = others.flatMap(({ versionId, limits }) =>
    Object.entries(limits).map(([field, value]) => {
      const { flag, format } = LIMIT_FLAGS[field as keyof FunctionLimits] as SettingField<unknown>
      return `version ${shortId(versionId)} asks for ${flag} ${format(value)}`
    }),
  )
  return [table, ...(asking.length === 0 ? [] : ['', ...asking])].join('\n')
}

/** Where the ceiling holds a value down, the table says that and what was wanted. */
function formatLimits(
  limits: FunctionLimits,
  layers: readonly (readonly [string, FunctionLimitsPatch])[],
  ceiling: FunctionLimitsCeiling,
): string {
  const wanted = mergeFunctionLimits(undefined, ...layers.map(([, layer]) => layer).toReversed())
  const rows = settingRows(LIMIT_FLAGS, limits, layers).map(([flag = '', value = '', from = ''], index) => {
    const field = Object.keys(LIMIT_FLAGS)[index] as keyof FunctionLimits
    const { format } = LIMIT_FLAGS[field] as SettingField<unknown>
    const most = field === 'egress' ? undefined : ceiling[field]
    const isHeld = most !== undefined && (wanted[field] as number) > most
    return [
      flag,
      value,
      isHeld ? `ceiling (${from}: ${format(wanted[field])})` : from,
      most === undefined ? '-' : format(most),
    ]
  })
  return formatTable(['LIMIT', 'VALUE', 'FROM', 'CEILING'], rows)
}

function formatHeld({ functionName, versionId, field, wanted, ceiling }: HeldLimit): string {
  const { flag, format } = LIMIT_FLAGS[field]
  const whose =
    functionName === undefined
      ? 'the fleet'
      : versionId === undefined
        ? functionName
        : `${functionName} ${shortId(versionId)}`
  return `  ${whose}: ${flag} ${format(wanted)} → ${format(ceiling)}`
}
