/* oxlint-disable no-underscore-dangle -- the names that the Cap'n Proto library gives its methods */
/**
 * Service bindings as workerd has them: services on the egress socket. What is to be believed of a call stands where the
 * function has no hand in it: in headers that workerd puts in for whatever was sent under their names, and in the host of
 * a CONNECT, which no code of a function can send without a port. For calls of methods there are several services to a
 * function, because workerd keeps one connection for each (guest/calls.js takes turns).
 */
import { EGRESS_LIMITS } from '../../sdk/model/limits.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { Binding, ServiceBinding, WorkerContent } from '../../sdk/model/function.ts'
import { servicesOf } from '../../sdk/model/function.ts'
import { calledServices } from '../pool/dispatch-call.ts'
import { rpcHost, SERVICE_HEADERS } from '../pool/inner-door.ts'
import type { HttpOptions, Worker_Binding } from './capnp/workerd.ts'

/** A service of the process on the egress socket. */
export interface OutgoingService {
  readonly name: string
  setHttp(http: HttpOptions): void
}

export function outgoingServices(content: WorkerContent): readonly OutgoingService[] {
  const plain = calledServices(content).map((service) => outgoing(serviceName(service), { service }))
  const called = content.bindings.filter((binding) => binding.type === 'service')
  const particular = called.filter(hasOwnService).map((binding) => {
    const { functionName: service, entrypoint, props } = binding
    return outgoing(nameOf(binding), { service, entrypoint, props: propsText(binding, props) })
  })
  const methods = servicesOf(content).flatMap((functionName) =>
    STUBS.map((stub) => ({
      name: stubName(functionName, stub),
      setHttp(http: HttpOptions) {
        http.capnpConnectHost = rpcHost(functionName, stub)
      },
    })),
  )
  return [...plain, ...particular, ...methods]
}

/** Fields that no request of a function's own may carry out. */
export const CALL_HEADERS = [
  SERVICE_HEADERS.service,
  SERVICE_HEADERS.entrypoint,
  SERVICE_HEADERS.props,
  // Else it could read the files of versions that do not serve, and no binding of a caller would be sure to lead to its callee.
  SERVICE_HEADERS.assetsOf,
]

/** Bindings of the guest's beside the function's own: it takes them away before the function sees any. */
export function guestBindings(content: WorkerContent): readonly ((target: Worker_Binding) => void)[] {
  const functionNames = servicesOf(content)
  if (functionNames.length === 0) return []
  const called = content.bindings.filter((binding) => binding.type === 'service')
  const calls = {
    depthMax: EGRESS_LIMITS.serviceDepthMax,
    functions: Object.fromEntries(
      functionNames.map((name) => [name, STUBS.map((stub) => stubBinding(name, stub))]),
    ),
    bindings: Object.fromEntries(
      called.map(({ name, functionName, entrypoint, props }) => [name, { functionName, entrypoint, props }]),
    ),
  }
  const stubs = functionNames.flatMap((functionName) =>
    STUBS.map((stub) => (target: Worker_Binding) => {
      target.name = stubBinding(functionName, stub)
      target._initService().name = stubName(functionName, stub)
    }),
  )
  const setCalls = (target: Worker_Binding): void => {
    target.name = '__isola_calls'
    target.json = JSON.stringify(calls)
  }
  return [setCalls, ...stubs]
}

export function serviceName(functionName: string): string {
  return `service:${functionName}`
}

/** The service that answers the `fetch` of a binding. */
export function nameOf(binding: ServiceBinding): string {
  return hasOwnService(binding) ? `binding:${binding.name}` : serviceName(binding.functionName)
}

/** An upper bound of what all this takes in a configuration beside the bindings themselves. */
export function serviceBytesMax(bindings: readonly Binding[], socketDirectory: string): number {
  let bytes = 0
  for (const binding of bindings) {
    if (binding.type !== 'service') continue
    bytes += (STUBS.length + 1) * (socketDirectory.length + 1_024) + 6 * JSON.stringify(binding).length
  }
  return bytes
}

const STUBS = [0, 1, 2, 3]

function stubName(functionName: string, stub: number): string {
  return `methods:${functionName}:${stub}`
}

function stubBinding(functionName: string, stub: number): string {
  return `__isola_methods_${functionName}_${stub}`
}

/** Not the default entrypoint without props, which many bindings can share. */
function hasOwnService({ entrypoint, props }: ServiceBinding): boolean {
  return entrypoint !== undefined || props !== undefined
}

function outgoing(
  name: string,
  {
    service,
    entrypoint,
    props,
  }: {
    readonly service: string
    readonly entrypoint?: string | undefined
    readonly props?: string | undefined
  },
): OutgoingService {
  return {
    name,
    setHttp(http) {
      const values = [service, entrypoint, props]
      const headers = http._initInjectRequestHeaders(CALL_HEADERS.length)
      for (const [index, name] of CALL_HEADERS.entries()) {
        headers.get(index).name = name
        const value = values[index]
        // One without a value is taken away.
        if (value !== undefined) headers.get(index).value = value
      }
    },
  }
}

/** JSON that a header can carry. */
function propsText({ name }: ServiceBinding, props: unknown): string | undefined {
  if (props === undefined) return undefined
  const text = JSON.stringify(props).replaceAll(
    /[^\x20-\x7e]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  if (text.length <= EGRESS_LIMITS.servicePropsBytesMax) return text
  throw new IsolaError(
    'version_refused',
    `the props of service binding "${name}" take ${text.length} bytes as JSON and ${EGRESS_LIMITS.servicePropsBytesMax} is the most: pass what is long as an argument`,
  )
}
