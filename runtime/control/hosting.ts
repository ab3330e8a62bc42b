import { IsolaError } from '../../sdk/model/errors.ts'
import type { FunctionRecord, FunctionRoute, Head } from '../../sdk/model/function.ts'
import { namespaceOfFunction } from './dispatch-namespaces.ts'
import { findFunction } from './find-function.ts'
import { untilLive } from './go-live.ts'
import type { ControlPorts } from './ports.ts'
import { checkRoutesFree, configRoutes, parsePatterns } from './routes.ts'

/** What is absent stays. */
export interface HostingChange {
  /** Replace the function's `config` routes; its `operator` routes stay. */
  readonly routes?: readonly { readonly pattern: string }[]
  readonly baseDomainHost?: boolean
  readonly previewHosts?: boolean
  /** Routes that other functions give up in the same swap: pattern → function. */
  readonly takenFrom?: ReadonlyMap<string, string>
}

/**
 * Changes where a function answers, and nothing else of it. `change` and `amend` run in the swap, maybe more than once.
 * Throws `function_not_found`, `route_taken`, `invalid_argument`.
 */
export async function setHosting(
  ports: ControlPorts,
  functionName: string,
  options: {
    readonly change: (record: FunctionRecord, head: Head) => HostingChange
    readonly amend?: (record: FunctionRecord) => FunctionRecord
  },
): Promise<FunctionRecord> {
  const { change, amend = (record) => record } = options
  const head = await ports.registry.swap((head) => {
    const record = findFunction(head, functionName)
    const { routes, takenFrom, baseDomainHost, previewHosts } = change(record, head)
    const functions = takenFrom === undefined ? head.functions : withoutRoutes(head.functions, takenFrom)
    const wanted = routes === undefined ? record.routes : configRoutes(record.routes, parsePatterns(routes))
    checkRoutesFree({ ...head, functions }, functionName, wanted)
    const hosted = {
      ...record,
      routes: wanted,
      baseDomainHost: baseDomainHost ?? record.baseDomainHost,
      previewHosts: previewHosts ?? record.previewHosts,
    }
    checkMayAnswer(head, hosted)
    const next = amend(hosted)
    return { ...functions, [functionName]: next }
  })
  await untilLive(ports, head)
  return findFunction(head, functionName)
}

/** Throws `conflict` for a script of a dispatch namespace: its caller decides who reaches it. */
function checkMayAnswer(head: Head, { name, baseDomainHost, previewHosts, routes }: FunctionRecord): void {
  const answers = baseDomainHost || previewHosts || routes.some(({ source }) => source === 'config')
  const namespace = answers ? namespaceOfFunction(head, name) : undefined
  if (namespace === undefined) return
  throw new IsolaError(
    'conflict',
    `"${name}" is a script of the dispatch namespace "${namespace}" and answers on no host: call it by a binding to the namespace, or deploy it under another name`,
  )
}

function withoutRoutes(
  functions: Head['functions'],
  takenFrom: ReadonlyMap<string, string>,
): Head['functions'] {
  const losers = new Set(takenFrom.values())
  const isLost = (name: string, { pattern }: FunctionRoute): boolean => takenFrom.get(pattern) === name
  return Object.fromEntries(
    Object.entries(functions).map(([name, record]) => [
      name,
      losers.has(name)
        ? { ...record, routes: record.routes.filter((route) => !isLost(name, route)) }
        : record,
    ]),
  )
}
