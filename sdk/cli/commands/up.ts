import { resolve } from 'node:path'
import ipaddr from 'ipaddr.js'
import type { SandboxChoice } from '../../../runtime/isolate/sandbox.ts'
import type { RunningNode } from '../../../runtime/node/start-node.ts'
import { IsolaError } from '../../model/errors.ts'
import { parseRoutePattern } from '../../model/route.ts'
import { DEFAULT_CONTROL, DEFAULT_HTTP, parseAddress } from '../address.ts'
import { type Command, type CommandContext, type CommandResult, JSON_FLAG } from '../command.ts'
import { DEFAULT_DATA_DIRECTORY } from '../find-node.ts'
import { formatBudget } from './status.ts'
import { usageError } from '../parse-arguments.ts'
import { suggest } from '../../config/suggestion.ts'

const SANDBOXES = ['auto', 'unshare', 'none'] as const satisfies readonly SandboxChoice[]

export const upCommand: Command = {
  name: 'up',
  summary: 'start a node on this machine',
  usage: '',
  words: [0, 0],
  flags: {
    data: {
      type: 'text',
      value: 'DIR',
      help: `where everything is kept (default ${DEFAULT_DATA_DIRECTORY})`,
    },
    http: { type: 'text', value: 'HOST:PORT', help: `where functions answer (default ${DEFAULT_HTTP})` },
    control: {
      type: 'text',
      value: 'HOST:PORT',
      help: `where the control API answers (default ${DEFAULT_CONTROL})`,
    },
    'base-domain': {
      type: 'text',
      value: 'DOMAIN',
      help: 'functions answer on <function>.DOMAIN (default localhost)',
    },
    'engine-socket': {
      type: 'text',
      value: 'PATH',
      help: 'unix socket of the container engine (default /var/run/docker.sock)',
    },
    'allow-egress': {
      type: 'texts',
      value: 'CIDR',
      help: 'a private network that functions may reach, e.g. 10.1.0.0/16',
    },
    memory: {
      type: 'text',
      value: 'SIZE',
      help: 'memory that instances may use together, e.g. 512M or 2G (default: what is there, less what the node needs)',
    },
    cpus: {
      type: 'text',
      value: 'N',
      help: 'processors that instances may use together, e.g. 1.5 (default: all)',
    },
    sandbox: {
      type: 'text',
      value: 'MEANS',
      help: `what confines instances: ${SANDBOXES.join(', ')} (default auto: the best there is)`,
    },
    json: JSON_FLAG,
  },
  notes: [
    'Both addresses are on the loopback by default; a node for the public needs --http 0.0.0.0:80. Port 0 picks a free one.',
    'Ctrl-C (or SIGTERM) lets requests finish and stops every process; a second one, a second or more later, kills them.',
    'With --json each event is one line, the first being {"event":"ready","httpUrl":…,"controlUrl":…}.',
  ].join('\n'),
  examples: [
    'isola up',
    'isola up --data /var/lib/isola --http 0.0.0.0:80 --base-domain fn.example',
    'isola up --memory 2G --cpus 1.5',
    'isola up --http 127.0.0.1:0 --json',
  ],
  endsOnStop: true,
  run: up,
}

async function up(context: CommandContext): Promise<CommandResult> {
  const { flags, output } = context
  const dataDirectory = resolve(context.workingDirectory, flags.text('data') ?? DEFAULT_DATA_DIRECTORY)
  const options = {
    dataDirectory,
    http: address(context, 'http', DEFAULT_HTTP),
    control: address(context, 'control', DEFAULT_CONTROL),
    baseDomain: baseDomain(context),
    allowEgress: allowedNetworks(context),
    sandbox: sandbox(context),
    memoryMib: memoryMib(context),
    cpus: cpus(context),
    engineSocket: context.flags.text('engine-socket'),
  }
  const { startNode } = await import('../../../runtime/node/start-node.ts')
  // Readiness is the first event a reader of --json gets, whatever was said before it.
  const early: string[] = []
  let isReady = false
  const onEvent = (line: string): void => {
    if (!output.json) output.progress(line)
    else if (isReady) output.document({ event: 'log', time: new Date().toISOString(), line })
    else early.push(line)
  }
  const node = await startNode({ ...options, onEvent })
  isReady = true
  output.document({
    event: 'ready',
    pid: process.pid,
    httpUrl: node.httpUrl,
    controlUrl: node.controlUrl,
    dataDirectory: node.dataDirectory,
    baseDomain: options.baseDomain,
    sandbox: node.sandbox,
    limits: node.limits,
    budget: node.budget,
    adopted: node.adopted,
  })
  for (const line of early) onEvent(line)
  output.line(
    [
      `isola is up: functions answer on ${functionUrl(node.httpUrl, options.baseDomain)}`,
      `  http      ${node.httpUrl}`,
      `  control   ${node.controlUrl}`,
      `  data      ${node.dataDirectory}`,
      `  sandbox   ${node.sandbox}`,
      `  limits    ${node.limits}`,
      `  budget    ${formatBudget(node.budget)}`,
      ...(node.adopted === 0 ? [] : [`  adopted   ${node.adopted} running instances of the agent before`]),
    ].join('\n'),
  )
  return await ending(context, node)
}

/** Until the first Ctrl-C; then the drain. A node that ends without being asked is a fault. */
async function ending(context: CommandContext, node: RunningNode): Promise<CommandResult> {
  const { output, stop, stopNow } = context
  await Promise.race([aborted(stop), node.stopped])
  if (!stop.aborted) {
    throw new IsolaError(
      'internal',
      'the node stopped by itself: its last lines say why; "isola doctor" checks the machine',
    )
  }
  output.progress('stopping: requests under way may finish; Ctrl-C again kills them')
  const stopping = node.stop()
  const outcome = await Promise.race([stopping.then(() => 'stopped' as const), aborted(stopNow)])
  const killed = outcome !== 'stopped'
  if (killed) node.kill()
  output.progress(killed ? 'killed' : 'stopped')
  return { document: { event: 'stopped', killed }, text: '', exitCode: killed ? 130 : 0 }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

function address(context: CommandContext, name: string, byDefault: string): string {
  const text = context.flags.text(name) ?? byDefault
  parseAddress(text, name)
  return text
}

function baseDomain(context: CommandContext): string {
  const text = (context.flags.text('base-domain') ?? 'localhost').toLowerCase()
  try {
    parseRoutePattern(`function.${text}/*`)
  } catch {
    throw usageError(
      `--base-domain is ${JSON.stringify(text)}: give a domain without port or path, e.g. fn.example`,
    )
  }
  return text
}

function sandbox(context: CommandContext): SandboxChoice {
  const text = context.flags.text('sandbox') ?? 'auto'
  const known = SANDBOXES.find((name) => name === text)
  if (known !== undefined) return known
  const hint = suggest(text, SANDBOXES)
  throw usageError(
    `--sandbox is "${text}": ${hint === undefined ? '' : `did you mean ${hint}? `}it can be ${SANDBOXES.join(', ')}`,
  )
}

const MIB_BY_UNIT: Readonly<Record<string, number>> = { '': 1, m: 1, g: 1024 }

/** `512M`, `2G`, `1.5GiB`; a bare number is MiB. Whether the machine has it, the node says. */
function memoryMib({ flags }: CommandContext): number | undefined {
  const text = flags.text('memory')
  if (text === undefined) return undefined
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(?:([mg])(?:i?b)?)?$/i.exec(text)
  if (match !== null) return Math.floor(Number(match[1]) * (MIB_BY_UNIT[match[2]?.toLowerCase() ?? ''] ?? 1))
  throw usageError(`--memory is ${JSON.stringify(text)}: give a size with its unit, e.g. 512M or 2G`)
}

function cpus({ flags }: CommandContext): number | undefined {
  const text = flags.text('cpus')
  if (text === undefined) return undefined
  if (/^\d{1,4}(?:\.\d{1,2})?$/.test(text)) return Number(text)
  throw usageError(`--cpus is ${JSON.stringify(text)}: give a number of processors, e.g. 2 or 1.5`)
}

function allowedNetworks(context: CommandContext): string[] {
  for (const text of context.flags.texts('allow-egress')) {
    if (!ipaddr.isValidCIDR(text)) {
      throw usageError(
        `--allow-egress is ${JSON.stringify(text)}: give a network, e.g. 10.1.0.0/16 or 10.1.2.3/32`,
      )
    }
  }
  return [...context.flags.texts('allow-egress')]
}

function functionUrl(httpUrl: string, domain: string): string {
  const { port } = new URL(httpUrl)
  return `http://<function>.${domain}${port === '' ? '' : `:${port}`}/`
}
