import type { RouteEntry } from '../../model/control.ts'
import { parseOrigin, parseRoutePattern } from '../../model/route.ts'
import { type Command, type CommandContext, type CommandResult, NODE_FLAGS } from '../command.ts'
import { connectToNode } from '../find-node.ts'
import { formatTable } from '../output.ts'
import { usageError } from '../parse-arguments.ts'
import { suggest } from '../../config/suggestion.ts'

const ACTIONS: Readonly<Record<string, (context: CommandContext) => Promise<CommandResult>>> = {
  list: listRoutes,
  add: addRoute,
  remove: removeRoute,
}

export const routesCommand: Command = {
  name: 'routes',
  summary: 'list, add or remove routes: which host and path belong to which function',
  usage: '[list | add PATTERN FN | remove PATTERN FN]',
  words: [0, 3],
  flags: {
    origin: {
      type: 'text',
      value: 'URL',
      help: "with add: where the function's own fetch for this host goes, http(s)://host[:port]",
    },
    ...NODE_FLAGS,
  },
  notes: [
    'A pattern is host/path: "shop.example/api/*", "*.shop.example/*" or just "shop.example". The longest wins.',
    'With --origin the function stands in front of a site: it fetches the request it got, and reaches the origin.',
    'Quote patterns, so that the shell leaves the * alone.',
  ].join('\n'),
  examples: [
    'isola routes',
    "isola routes add 'shop.example/api/*' api",
    "isola routes add 'www.example/*' edge --origin http://10.0.0.5:3000",
    "isola routes remove 'shop.example/api/*' api",
  ],
  async run(context) {
    const [name = 'list'] = context.words
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
    if (action !== undefined) return await action(context)
    const hint = suggest(name, Object.keys(ACTIONS))
    throw usageError(
      `isola routes cannot "${name}": ${hint === undefined ? '' : `did you mean "${hint}"? `}it has ${Object.keys(ACTIONS).join(', ')}`,
    )
  },
}

async function listRoutes(context: CommandContext): Promise<CommandResult> {
  if (context.words.length > 1) throw usageError('isola routes list takes nothing more')
  const client = await connectToNode(context)
  const routes = await client.listRoutes()
  return {
    document: { routes },
    text:
      routes.length === 0
        ? 'no routes: each function answers on its own host under the base domain'
        : formatTable(['ROUTE', 'FUNCTION', 'FROM', 'ORIGIN'], routes.map(routeRow)),
  }
}

function routeRow(route: RouteEntry): readonly string[] {
  return [route.pattern, route.functionName, route.source, route.origin ?? '-']
}

async function addRoute(context: CommandContext): Promise<CommandResult> {
  const { pattern, name } = patternAndFunction(context)
  const origin = context.flags.text('origin')
  parseRoutePattern(pattern)
  if (origin !== undefined) parseOrigin(origin)
  const client = await connectToNode(context)
  const { generation } = await client.addRoute(name, { pattern, ...(origin === undefined ? {} : { origin }) })
  return {
    document: { functionName: name, pattern, ...(origin === undefined ? {} : { origin }), generation },
    text: `${pattern} goes to ${name}${origin === undefined ? '' : `, whose own fetch for it goes to ${origin}`}`,
  }
}

async function removeRoute(context: CommandContext): Promise<CommandResult> {
  const { pattern, name } = patternAndFunction(context)
  const client = await connectToNode(context)
  const { generation } = await client.removeRoute(name, { pattern })
  return {
    document: { functionName: name, pattern, generation },
    text: `${pattern} no longer goes to ${name}`,
  }
}

function patternAndFunction(context: CommandContext): { readonly pattern: string; readonly name: string } {
  const [action, pattern, name] = context.words
  if (pattern !== undefined && name !== undefined) return { pattern, name }
  throw usageError(`isola routes ${action} needs more: isola routes ${action} PATTERN FN`)
}
