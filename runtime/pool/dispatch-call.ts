/**
 * How a dispatch binding calls a function of its namespace: a request to the egress socket like that of a service binding,
 * whose service is the namespace. Which function a script is, the proxy knows from its rules; whether the caller may use
 * the namespace, from who assigned the socket.
 */
import type { VersionContent } from '../../sdk/model/function.ts'
import { servicesOf } from '../../sdk/model/function.ts'

export const DISPATCH_HEADERS = {
  /** From the instance, beside the service: the script, percent-encoded. The binding's own module sets it. */
  script: 'isola-dispatch-script',
} as const

/** No function has a colon in its name. */
const PREFIX = 'dispatch:'

export function dispatchServiceName(namespace: string): string {
  return `${PREFIX}${namespace}`
}

/** `undefined` for a service that is a function. */
export function namespaceOf(service: string): string | undefined {
  return service.startsWith(PREFIX) ? service.slice(PREFIX.length) : undefined
}

/** The dispatch namespaces that a version may call into, each once. */
export function namespacesOf({ bindings }: VersionContent): readonly string[] {
  return [...new Set(bindings.flatMap((each) => (each.type === 'dispatch' ? [each.namespace] : [])))]
}

/** All that a version may call by name: functions, and namespaces as `dispatchServiceName` spells them. */
export function calledServices(content: VersionContent): readonly string[] {
  return [...servicesOf(content), ...namespacesOf(content).map(dispatchServiceName)]
}
