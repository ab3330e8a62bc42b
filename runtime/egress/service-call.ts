/**
 * A call of one function by another, through a service binding. The instance says in a header which one; whether it may,
 * the agent has said, because a function can write that header by itself.
 */
import type { IncomingMessage } from 'node:http'
import { IsolaError } from '../../sdk/model/errors.ts'
import { INSTANCE_HEADERS } from '../pool/driver.ts'
import { DISPATCH_HEADERS, namespaceOf } from '../pool/dispatch-call.ts'
import { INNER_DOOR_HEADERS, SERVICE_HEADERS } from '../pool/inner-door.ts'
import { serviceRequestHeaders } from './headers.ts'
import type { EgressLimits } from './egress-limits.ts'
import type { Rules } from './rules.ts'
import { parseTarget } from './target.ts'

export interface ServiceCall {
  /** Who is called. */
  readonly functionName: string
  readonly path: string
  /** All but those of the framing: names and values in turn. */
  readonly headers: readonly string[]
}

/** What the instance asks for; `undefined`: the way out. */
export function serviceNamed({ headers }: IncomingMessage): string | undefined {
  return headers[SERVICE_HEADERS.service] as string | undefined
}

/** Throws `egress_refused`, `loop_detected`, `bad_request`; `function_not_found` only for a script of a namespace. */
export function readServiceCall(
  asked: {
    readonly kind: 'http' | 'tcp'
    readonly request: IncomingMessage
    readonly service: string
    /** Who calls. */
    readonly functionName: string
    /** Whom it may call. */
    readonly services: readonly string[]
    /** What a script of a dispatch namespace is. */
    readonly scriptFunction: Rules['scriptFunction']
  },
  limits: EgressLimits,
): ServiceCall {
  const { kind, request, service, functionName } = asked
  const shown = JSON.stringify(service.slice(0, 100))
  checkService(asked)
  if (kind === 'tcp') {
    throw new IsolaError(
      'egress_refused',
      `the service binding for ${shown} takes no TCP connections: use its fetch()`,
    )
  }
  const depth = depthOf(request) + 1
  if (depth > limits.serviceDepthMax) {
    throw new IsolaError(
      'loop_detected',
      `function "${functionName}" calls ${shown} after ${limits.serviceDepthMax} calls of functions by functions, which is the most: look for functions that call each other in a circle`,
      { details: { service, depth } },
    )
  }
  const callee = calleeOf(asked)
  const { secure, authority, path } = parseTarget(request.url ?? '')
  const headers = [
    ...serviceRequestHeaders(request.rawHeaders, authority),
    INNER_DOOR_HEADERS.functionName,
    callee,
    INSTANCE_HEADERS.proto,
    secure ? 'https' : 'http',
    SERVICE_HEADERS.depth,
    String(depth),
    ...entrypointHeaders(request),
  ]
  return { functionName: callee, path, headers }
}

/** Throws `egress_refused` for a service that the agent has not named. */
export function checkService({
  service,
  functionName,
  services,
}: {
  readonly service: string
  readonly functionName: string
  readonly services: readonly string[]
}): void {
  if (services.includes(service)) return
  const named = service.slice(0, 100)
  throw new IsolaError(
    'egress_refused',
    `function "${functionName}" has no service binding for ${JSON.stringify(named)}: add one to "services" of its configuration and deploy it`,
    { details: { service: named } },
  )
}

/** Which entrypoint is meant, and with what props: workerd has put that in, or taken away what the function wrote there. */
function entrypointHeaders({ headers }: IncomingMessage): readonly string[] {
  return [SERVICE_HEADERS.entrypoint, SERVICE_HEADERS.props].flatMap((name) => {
    const value = headers[name]
    return typeof value === 'string' ? [name, value] : []
  })
}

/** A service is a function, or a namespace of which the request names a script. */
function calleeOf({ request, service, scriptFunction }: Parameters<typeof readServiceCall>[0]): string {
  const namespace = namespaceOf(service)
  if (namespace === undefined) return service
  const script = scriptNamed(request)
  const functionName = script === undefined ? undefined : scriptFunction(namespace, script)
  if (functionName !== undefined) return functionName
  throw new IsolaError(
    'function_not_found',
    `the dispatch namespace "${namespace}" has no Worker ${JSON.stringify((script ?? '').slice(0, 100))}: upload it with "wrangler deploy --dispatch-namespace ${namespace}"`,
  )
}

function scriptNamed({ headers }: IncomingMessage): string | undefined {
  const encoded = headers[DISPATCH_HEADERS.script]
  if (typeof encoded !== 'string') return undefined
  try {
    return decodeURIComponent(encoded)
  } catch {
    return undefined
  }
}

/** Given twice, or as anything but a number, it was not given by isola: the end of all calls. */
function depthOf({ headers }: IncomingMessage): number {
  const text = headers[SERVICE_HEADERS.depth] as string | undefined
  if (text === undefined) return 0
  return /^\d{1,3}$/.test(text) ? Number(text) : Number.MAX_SAFE_INTEGER
}
