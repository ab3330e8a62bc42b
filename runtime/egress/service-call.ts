/**
 * A call of one function by another, through a service binding. The instance says in a header which one; whether it may,
 * the agent has said, because a function can write that header by itself.
 */
import type { IncomingMessage } from 'node:http'
import { IsolaError } from '../../sdk/model/errors.ts'
import { INSTANCE_HEADERS } from '../pool/driver.ts'
import { INNER_DOOR_HEADERS, SERVICE_HEADERS } from '../pool/inner-door.ts'
import { serviceRequestHeaders } from './headers.ts'
import type { EgressLimits } from './egress-limits.ts'
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

/** Throws `egress_refused`, `loop_detected`, `bad_request`. */
export function readServiceCall(
  asked: {
    readonly kind: 'http' | 'tcp'
    readonly request: IncomingMessage
    readonly service: string
    /** Who calls. */
    readonly functionName: string
    /** Whom it may call. */
    readonly services: readonly string[]
  },
  limits: EgressLimits,
): ServiceCall {
  const { kind, request, service, functionName, services } = asked
  const shown = JSON.stringify(service.slice(0, 100))
  if (!services.includes(service)) {
    throw new IsolaError(
      'egress_refused',
      `function "${functionName}" has no service binding for ${shown}: add one to "services" of its configuration and deploy it`,
      { details: { service: service.slice(0, 100) } },
    )
  }
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
  const { secure, authority, path } = parseTarget(request.url ?? '')
  const headers = [
    ...serviceRequestHeaders(request.rawHeaders, authority),
    INNER_DOOR_HEADERS.functionName,
    service,
    INSTANCE_HEADERS.proto,
    secure ? 'https' : 'http',
    SERVICE_HEADERS.depth,
    String(depth),
  ]
  return { functionName: service, path, headers }
}

/** Given twice, or as anything but a number, it was not given by isola: the end of all calls. */
function depthOf({ headers }: IncomingMessage): number {
  const text = headers[SERVICE_HEADERS.depth] as string | undefined
  if (text === undefined) return 0
  return /^\d{1,3}$/.test(text) ? Number(text) : Number.MAX_SAFE_INTEGER
}
