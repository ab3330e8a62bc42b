/**
 * A function that asks for its own static files (`env.ASSETS.fetch()`): the router's inner door serves them. Whose files
 * they are is who the instance is; the version is the instance's word, and the router takes it for one of that function.
 */
import type { IncomingMessage } from 'node:http'
import { IsolaError } from '../../sdk/model/errors.ts'
import { INSTANCE_HEADERS } from '../pool/driver.ts'
import { INNER_DOOR_HEADERS, SERVICE_HEADERS } from '../pool/inner-door.ts'
import { serviceRequestHeaders } from './headers.ts'
import type { ServiceCall } from './service-call.ts'
import { parseTarget } from './target.ts'

/** The version whose files the instance asks for; `undefined`: it asks for something else. */
export function assetsVersionNamed({ headers }: IncomingMessage): string | undefined {
  return headers[SERVICE_HEADERS.assetsOf] as string | undefined
}

/** Throws `egress_refused`, `bad_request`. */
export function readAssetsCall(asked: {
  readonly kind: 'http' | 'tcp'
  readonly request: IncomingMessage
  readonly versionId: string
  readonly functionName: string
}): ServiceCall {
  const { kind, request, versionId, functionName } = asked
  if (kind === 'tcp') {
    throw new IsolaError(
      'egress_refused',
      'the binding for static files takes no TCP connections: use its fetch()',
    )
  }
  const { secure, authority, path } = parseTarget(request.url ?? '')
  const headers = [
    ...serviceRequestHeaders(request.rawHeaders, authority),
    INNER_DOOR_HEADERS.functionName,
    functionName,
    INNER_DOOR_HEADERS.assetsOf,
    versionId.slice(0, VERSION_CHARS_MAX),
    INSTANCE_HEADERS.proto,
    secure ? 'https' : 'http',
  ]
  return { functionName, path, headers }
}

const VERSION_CHARS_MAX = 100
