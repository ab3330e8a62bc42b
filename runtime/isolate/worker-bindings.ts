/* oxlint-disable no-underscore-dangle -- the names that the Cap'n Proto library gives its methods */
/**
 * Bindings as workerd has them. What workerd has no binding for is one of its wrapped ones: an object that a module of ours
 * makes, which the function cannot import, around a service that the function does not see.
 */
import { readFileSync } from 'node:fs'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { Binding, RateLimitBinding, WorkerVersion } from '../../sdk/model/function.ts'
import { dispatchServiceName } from '../pool/dispatch-call.ts'
import { SERVICE_HEADERS } from '../pool/inner-door.ts'
import { RATE_LIMIT_HEADERS } from '../pool/rate-limit-call.ts'
import type { Config, HttpOptions, Worker, Worker_Binding } from './capnp/workerd.ts'
import { CALL_HEADERS, guestBindings, nameOf, serviceName, type OutgoingService } from './service-bindings.ts'

/** Closed with the fleet's key, as it lies in the version. */
export interface SealedSecret {
  readonly functionName: string
  readonly name: string
  readonly sealed: string
}

export interface BindingOptions {
  readonly version: WorkerVersion
  /** Opens secrets. Without it a version that has some is not started. */
  readonly openSecret?: ((secret: SealedSecret) => string) | undefined
}

const RATE_LIMIT_MODULE = {
  name: 'isola-internal:rate-limit',
  source: readFileSync(new URL('./guest/rate-limit.js', import.meta.url), 'utf8'),
}
const DISPATCH_MODULE = {
  name: 'isola-internal:dispatch',
  source: readFileSync(new URL('./guest/dispatch.js', import.meta.url), 'utf8'),
}

export function setBindings(worker: Worker, options: BindingOptions): void {
  const { content } = options.version
  // Modules as globals are the entry's to set: workerd has them as bindings only for scripts, and this is none to it.
  const bindings = content.bindings.filter(({ type }) => type !== 'module')
  const own = guestBindings(content)
  const list = worker._initBindings(bindings.length + own.length)
  bindings.forEach((binding, index) => setBinding(list.get(index), binding, options))
  own.forEach((set, index) => set(list.get(bindings.length + index)))
}

function setBinding(target: Worker_Binding, binding: Binding, options: BindingOptions): void {
  const { version, openSecret } = options
  target.name = binding.name
  switch (binding.type) {
    case 'text':
      target.text = binding.text
      return
    case 'json':
      target.json = JSON.stringify(binding.json)
      return
    case 'secret': {
      const { name, sealed } = binding
      if (openSecret === undefined) throw new Error(`secret "${name}" cannot be opened: there is no key here`)
      target.text = openSecret({ functionName: version.functionName, name, sealed })
      return
    }
    case 'version-metadata':
      target.json = JSON.stringify(versionMetadata(version))
      return
    case 'rate-limit': {
      const wrapped = target._initWrapped()
      wrapped.moduleName = RATE_LIMIT_MODULE.name
      const inner = wrapped._initInnerBindings(1).get(0)
      inner.name = 'limiter'
      inner._initService().name = limiterName(binding)
      return
    }
    case 'dispatch': {
      const wrapped = target._initWrapped()
      wrapped.moduleName = DISPATCH_MODULE.name
      const inner = wrapped._initInnerBindings(1).get(0)
      inner.name = 'namespace'
      inner._initService().name = serviceName(dispatchServiceName(binding.namespace))
      return
    }
    case 'service':
      target._initService().name = nameOf(binding)
      return
    case 'assets':
      target._initService().name = ASSETS_SERVICE
      return
    default:
      throw new IsolaError(
        'version_refused',
        `binding "${binding.name}" is of type "${binding.type}", which instances do not have yet: remove it`,
      )
  }
}

const ASSETS_SERVICE = 'assets'

/** The version's own static files, where it has a binding for them. */
export function assetsOf({ id, content }: WorkerVersion): readonly OutgoingService[] {
  if (!content.bindings.some(({ type }) => type === 'assets')) return []
  const setHttp = (http: HttpOptions): void => {
    const headers = http._initInjectRequestHeaders(2)
    headers.get(0).name = SERVICE_HEADERS.assetsOf
    headers.get(0).value = id
    headers.get(1).name = RATE_LIMIT_HEADERS.limit
  }
  return [{ name: ASSETS_SERVICE, setHttp }]
}

/** As Cloudflare shows it: the id is that of its API, a UUID. */
function versionMetadata({ id, tag, createdAt }: WorkerVersion): {
  readonly id: string
  readonly tag: string
  readonly timestamp: string
} {
  const uuid = id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  return { id: uuid, tag: tag ?? '', timestamp: createdAt }
}

/** Services of the process that count for the limits, one for each that is unlike the others. */
export function limitersOf(bindings: readonly Binding[]): readonly OutgoingService[] {
  const limiters = new Map<string, OutgoingService>()
  for (const binding of bindings) {
    if (binding.type !== 'rate-limit') continue
    const name = limiterName(binding)
    limiters.set(name, {
      name,
      setHttp(http) {
        const values = [binding.namespaceId, String(binding.limit), String(binding.periodS)].map(
          encodeURIComponent,
        )
        const headers = http._initInjectRequestHeaders(1)
        headers.get(0).name = RATE_LIMIT_HEADERS.limit
        headers.get(0).value = values.join(' ')
      },
    })
  }
  return [...limiters.values()]
}

/** On the way out, which is the function's: what only a limiter or a service may say is taken from what it sends. */
export function withoutOwnHeaders(http: HttpOptions): void {
  const names = [RATE_LIMIT_HEADERS.limit, ...CALL_HEADERS]
  const headers = http._initInjectRequestHeaders(names.length)
  // A header without a value is removed.
  for (const [index, name] of names.entries()) headers.get(index).name = name
}

function limiterName({ namespaceId, limit, periodS }: RateLimitBinding): string {
  return `rate-limit:${limit}/${periodS}:${namespaceId}`
}

/** Modules of ours that bindings are made by, as far as the function's need them. */
export function setExtensions(config: Config, bindings: readonly Binding[]): void {
  const needed = modulesOf(bindings)
  if (needed.length === 0) return
  const modules = config._initExtensions(1).get(0)._initModules(needed.length)
  for (const [index, { name, source }] of needed.entries()) {
    const module = modules.get(index)
    module.name = name
    module.internal = true
    module.esModule = source
  }
}

function modulesOf(bindings: readonly Binding[]): readonly (typeof RATE_LIMIT_MODULE)[] {
  const types = new Set(bindings.map(({ type }) => type))
  return [
    ...(types.has('rate-limit') ? [RATE_LIMIT_MODULE] : []),
    ...(types.has('dispatch') ? [DISPATCH_MODULE] : []),
  ]
}

/** An upper bound of what the bindings take in the message. */
export function bindingsBytesMax(bindings: readonly Binding[], socketDirectory: string): number {
  let bytes = 0
  for (const { source } of modulesOf(bindings)) bytes += 3 * source.length + 256
  bytes += bindings.length * (socketDirectory.length + 768)
  for (const binding of bindings) bytes += 3 * JSON.stringify(binding).length + 128
  return bytes
}
