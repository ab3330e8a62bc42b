/* oxlint-disable no-underscore-dangle -- the names that the Cap'n Proto library gives its methods */
/**
 * A version as the configuration of one workerd process. The function's modules keep their names, because stacks and
 * imports show them; ours stand beside them under a reserved prefix, and an entry module made here ties both.
 * Module bytes are copied once, into a message whose size is known beforehand: the library would otherwise copy the
 * whole message again at each module.
 */
import { readFileSync } from 'node:fs'
import { Message, utils } from 'capnp-es'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { ModuleRef } from '../../sdk/model/bundle.ts'
import type { WorkerContent } from '../../sdk/model/function.ts'
import { INSTANCE_HEADERS } from '../pool/driver.ts'
import { RPC_HOST, RPC_SOCKET } from '../pool/inner-door.ts'
import {
  Config,
  type HttpOptions,
  HttpOptions_Style,
  type Service,
  type Worker,
  type Worker_Module,
  Worker_Module_Which,
} from './capnp/workerd.ts'
import { limitsInForce } from './limits-in-force.ts'
import { LOG_MARKS } from './log-marks.ts'
import { outgoingServices, serviceBytesMax } from './service-bindings.ts'
import { heapMib, MEMORY_PLAN, type MemoryPlan } from './workerd.ts'
import {
  assetsOf,
  bindingsBytesMax,
  limitersOf,
  setBindings,
  setExtensions,
  type BindingOptions,
  withoutOwnHeaders,
} from './worker-bindings.ts'

/** Sockets in an instance's directory: it listens on the first three and connects to the last. */
export const INSTANCE_SOCKETS = {
  http: 'http.sock',
  control: 'control.sock',
  rpc: RPC_SOCKET,
  egress: 'egress.sock',
} as const

/** Names of modules that start so are ours. */
const RESERVED_MODULE_PREFIX = '__isola_'

export interface ConfigOptions extends BindingOptions {
  /** Bodies by digest; those of source maps are not needed. */
  readonly modules: ReadonlyMap<string, Uint8Array>
  /** Absolute path as workerd sees it. */
  readonly socketDirectory: string
  /** Memory limit in force. @default what the version asks for, else the default of all functions */
  readonly memoryMib?: number
  /** @default MEMORY_PLAN */
  readonly memory?: MemoryPlan
}

interface NamedBody {
  readonly name: string
  readonly kind: Exclude<ModuleRef['kind'], 'sourcemap'>
  readonly body: Uint8Array
}

/**
 * The binary message that a blank reads from stdin.
 * Throws `version_refused` for what no workerd would load, `blob_missing` where a module's body is not given.
 */
export function encodeConfig(options: ConfigOptions): Uint8Array {
  const { content } = options.version
  const memory = options.memory ?? MEMORY_PLAN
  const modules = [...guestModules(content, memory), ...functionModules(options)]
  const message = new Message()
  // All the room at once: its first segment, made bigger while it is still empty.
  message.getSegment(0)
  message.allocateSegment(messageBytesMax(modules, options))
  const config = message.initRoot(Config)

  const outgoing = [
    ...outgoingServices(content),
    ...limitersOf(content.bindings),
    ...assetsOf(options.version),
  ]
  const services = config._initServices(2 + outgoing.length)
  const service = services.get(0)
  service.name = 'function'
  setWorker(service._initWorker(), options, modules)
  const egress = services.get(1)
  // Named like the service that workerd makes by itself: that one would open every CA file of the machine, and there is none in the sandbox.
  egress.name = 'internet'
  withoutOwnHeaders(initEgress(egress, options))
  for (const [index, { name, setHttp }] of outgoing.entries()) {
    const service = services.get(2 + index)
    service.name = name
    setHttp(initEgress(service, options))
  }
  setExtensions(config, content.bindings)

  const sockets = config._initSockets(3)
  for (const [index, name] of (['http', 'control', 'rpc'] as const).entries()) {
    const socket = sockets.get(index)
    socket.name = name
    socket.address = `unix:${options.socketDirectory}/${INSTANCE_SOCKETS[name]}`
    const http = socket._initHttp()
    http.forwardedProtoHeader = INSTANCE_HEADERS.proto
    // Nobody sends it, and so `request.cf` is undefined: without, workerd puts the router's process id there.
    http.cfBlobHeader = INSTANCE_HEADERS.cf
    const target = socket._initService()
    target.name = 'function'
    if (name === 'control') target.entrypoint = CONTROL_ENTRYPOINT
    if (name === 'rpc') {
      target.entrypoint = RPC_ENTRYPOINT
      http.capnpConnectHost = RPC_HOST
    }
  }
  // workerd reads them with the rest: a blank does not know yet whose memory it will have.
  const memoryMib = options.memoryMib ?? limitsInForce(options.version).memoryMib
  const v8Flags = [...memory.v8Flags, `--max-old-space-size=${heapMib(memoryMib)}`]
  setTexts(config._initV8Flags(v8Flags.length), v8Flags)
  const logging = config._initLogging()
  logging.structuredLogging = true
  logging.stdoutPrefix = LOG_MARKS.stdout
  logging.stderrPrefix = LOG_MARKS.stderr
  return new Uint8Array(message.toArrayBuffer())
}

function initEgress(service: Service, { socketDirectory }: ConfigOptions): HttpOptions {
  const external = service._initExternal()
  external.address = `unix:${socketDirectory}/${INSTANCE_SOCKETS.egress}`
  const http = external._initHttp()
  http.style = HttpOptions_Style.PROXY
  return http
}

const ENTRY_MODULE = `${RESERVED_MODULE_PREFIX}entry.js`
const CONTROL_ENTRYPOINT = `${RESERVED_MODULE_PREFIX}control`
const RPC_ENTRYPOINT = `${RESERVED_MODULE_PREFIX}rpc`
/** Flags that bring `node:async_hooks`, which the guest follows requests with, and the one that forbids it. */
const CONTEXT_FLAG = 'nodejs_als'
const NO_CONTEXT_FLAG = 'no_nodejs_als'
const NO_ENV_FLAG = 'disallow_importable_env'

const readGuest = (name: string): Uint8Array => readFileSync(new URL(`./guest/${name}.js`, import.meta.url))
const GUEST = {
  prelude: readGuest('prelude'),
  handlers: readGuest('handlers'),
  memory: readGuest('memory'),
  calls: readGuest('calls'),
  context: readGuest('context'),
  entrypoints: readGuest('entrypoints'),
  script: readGuest('script'),
  requests: readGuest('requests'),
  requestsUntracked: readGuest('requests-untracked'),
}

/** The entry comes first: workerd takes the first module for the main one. */
function guestModules(content: WorkerContent, memory: MemoryPlan): NamedBody[] {
  const { mainModule, format } = content
  const isScript = format === 'service-worker'
  const own = (name: string): string => `${RESERVED_MODULE_PREFIX}${name}.js`
  const main = JSON.stringify(`./${mainModule}`)
  const options = JSON.stringify({ moduleName: mainModule, collection: memory.collection, isScript })
  const parts = isScript
    ? `import { scriptHandlers } from './${own('script')}'
import './${own('globals')}'
import ${main}
const handlers = scriptHandlers()
offer({ default: handlers })
export default wrap(handlers, ${options})
`
    : `import * as exported from ${main}
export * from ${main}
offer(exported)
export default wrap(exported.default, ${options})
`
  const entry = `import './${own('prelude')}'
import { control, wrap } from './${own('handlers')}'
import { offer, Rpc } from './${own('entrypoints')}'
export { control as ${CONTROL_ENTRYPOINT}, Rpc as ${RPC_ENTRYPOINT} }
${parts}`
  const tracked = !content.compatibilityFlags.includes(NO_CONTEXT_FLAG)
  return [
    { name: ENTRY_MODULE, kind: 'esm', body: Buffer.from(entry) },
    { name: `${RESERVED_MODULE_PREFIX}prelude.js`, kind: 'esm', body: GUEST.prelude },
    { name: `${RESERVED_MODULE_PREFIX}handlers.js`, kind: 'esm', body: GUEST.handlers },
    ...(isScript ? scriptModules(content) : []),
    { name: `${RESERVED_MODULE_PREFIX}memory.js`, kind: 'esm', body: GUEST.memory },
    { name: `${RESERVED_MODULE_PREFIX}calls.js`, kind: 'esm', body: GUEST.calls },
    { name: `${RESERVED_MODULE_PREFIX}context.js`, kind: 'esm', body: GUEST.context },
    { name: `${RESERVED_MODULE_PREFIX}entrypoints.js`, kind: 'esm', body: GUEST.entrypoints },
    {
      name: `${RESERVED_MODULE_PREFIX}requests.js`,
      kind: 'esm',
      body: tracked ? GUEST.requests : GUEST.requestsUntracked,
    },
  ]
}

/** What makes a module look like the script that it is: its globals are there before its first line. */
function scriptModules({ bindings }: WorkerContent): NamedBody[] {
  const bound = bindings.flatMap((binding) => (binding.type === 'module' ? [binding] : []))
  const imports = bound.map(({ module }, index) => `import m${index} from ${JSON.stringify(`./${module}`)}\n`)
  const entries = bound.map(({ name }, index) => `${JSON.stringify(name)}: m${index}`)
  const globals = `import { defineGlobals } from './${RESERVED_MODULE_PREFIX}script.js'
${imports.join('')}defineGlobals({ ${entries.join(', ')} })
`
  return [
    { name: `${RESERVED_MODULE_PREFIX}script.js`, kind: 'esm', body: GUEST.script },
    { name: `${RESERVED_MODULE_PREFIX}globals.js`, kind: 'esm', body: Buffer.from(globals) },
  ]
}

function functionModules(options: ConfigOptions): NamedBody[] {
  const found: NamedBody[] = []
  for (const { name, kind, sha256 } of options.version.content.modules) {
    if (name.startsWith(RESERVED_MODULE_PREFIX)) {
      throw new IsolaError(
        'version_refused',
        `module "${name}" has a name that isola keeps for itself: rename it, without "${RESERVED_MODULE_PREFIX}" in front`,
      )
    }
    if (kind === 'sourcemap') continue
    const body = options.modules.get(sha256)
    if (body === undefined) {
      throw new IsolaError(
        'blob_missing',
        `module "${name}" of ${options.version.functionName} has no blob ${sha256}`,
      )
    }
    found.push({ name, kind, body })
  }
  const { mainModule: main, format } = options.version.content
  const isMain = ({ name, kind }: NamedBody): boolean =>
    name === main && (kind === 'esm' || (kind === 'cjs' && format === 'service-worker'))
  if (!found.some(isMain)) {
    throw new IsolaError(
      'version_refused',
      `main module "${main}" is not among the modules with code of the bundle: deploy it again`,
    )
  }
  return found
}

function setWorker(worker: Worker, options: ConfigOptions, modules: readonly NamedBody[]): void {
  const { content } = options.version
  worker.compatibilityDate = content.compatibilityDate
  const flags = new Set(content.compatibilityFlags)
  if (!flags.has(NO_CONTEXT_FLAG)) flags.add(CONTEXT_FLAG)
  // A script imports nothing; its bindings get to it by this import of ours.
  if (content.format === 'service-worker') flags.delete(NO_ENV_FLAG)
  setTexts(worker._initCompatibilityFlags(flags.size), [...flags])
  const moduleList = worker._initModules(modules.length)
  modules.forEach((module, index) => setModule(moduleList.get(index), module))
  setBindings(worker, options)
  worker._initGlobalOutbound().name = 'internet'
}

const WHICH_BY_KIND = {
  esm: Worker_Module_Which.ES_MODULE,
  cjs: Worker_Module_Which.COMMON_JS_MODULE,
  text: Worker_Module_Which.TEXT,
  data: Worker_Module_Which.DATA,
  wasm: Worker_Module_Which.WASM,
  json: Worker_Module_Which.JSON,
} as const

/** Writes the bytes as they are: text too is bytes and a NUL, and going through a string would cost two copies. */
function setModule(target: Worker_Module, { name, kind, body }: NamedBody): void {
  target.name = name
  const isBinary = kind === 'data' || kind === 'wasm'
  utils.setUint16(0, WHICH_BY_KIND[kind], target)
  utils.initData(1, isBinary ? body.length : body.length + 1, target).copyBuffer(body)
}

function setTexts(target: { set(index: number, value: string): void }, values: readonly string[]): void {
  for (const [index, value] of values.entries()) target.set(index, value)
}

/** An upper bound: bytes of what may be long, and room for the words around it. Untouched room costs nothing. */
function messageBytesMax(modules: readonly NamedBody[], options: ConfigOptions): number {
  const { bindings } = options.version.content
  let bytes = 64 * 1024 + 8 * options.socketDirectory.length
  bytes += bindingsBytesMax(bindings, options.socketDirectory)
  bytes += serviceBytesMax(bindings, options.socketDirectory)
  for (const { name, body } of modules) bytes += body.length + 3 * name.length + 64
  for (const flag of options.version.content.compatibilityFlags) bytes += 3 * flag.length + 16
  return bytes + (8 - (bytes % 8))
}
