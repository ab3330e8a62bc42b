import { readdirSync, readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import type { ModuleDefinition, WorkerOptions } from 'miniflare'
import { createStackMapper } from '../../runtime/isolate/stack-map.ts'
import type { Bundle, Module } from '../model/bundle.ts'
import type { Binding } from '../model/function.ts'
import { devAssets, NO_CODE } from './dev-assets.ts'
import type { BuiltFunction } from './build-function.ts'

/**
 * A function as miniflare's workers: itself inside the same handlers that an instance has, and a gateway before it
 * that does the router's part. So a throw, a missing handler or a wrong result is answered as on a node.
 */
export function devWorkers(built: BuiltFunction): WorkerOptions[] {
  const { bundle, config } = built
  return [
    {
      name: '__isola_gateway',
      compatibilityDate: config.compatibilityDate,
      modulesRoot: '.',
      modules: [
        {
          type: 'ESModule',
          path: 'gateway.js',
          contents: readFileSync(new URL('./guest/gateway.js', import.meta.url), 'utf8'),
        },
      ],
      serviceBindings: { FUNCTION: config.functionName },
    },
    {
      name: config.functionName,
      compatibilityDate: config.compatibilityDate,
      compatibilityFlags: [...config.compatibilityFlags],
      modulesRoot: '.',
      modules:
        bundle.mainModule === ''
          ? [...NO_CODE]
          : [...entryModules(bundle), ...instanceModules(), ...bundle.modules.flatMap(moduleDefinition)],
      ...devAssets(built),
      bindings: Object.fromEntries(config.bindings.flatMap(variableEntry)),
      ratelimits: Object.fromEntries(config.bindings.flatMap(rateLimitEntry)),
      serviceBindings: Object.fromEntries(
        config.bindings.flatMap((binding) =>
          binding.type === 'service' ? [[binding.name, workerOf(binding.functionName, config)]] : [],
        ),
      ),
    },
    ...absentWorkers(config),
  ]
}

/** What ties the function to the modules that instances have around it. The entry comes first. */
function entryModules({ mainModule, format }: Bundle): ModuleDefinition[] {
  const main = JSON.stringify(`./${mainModule}`)
  const isScript = format === 'service-worker'
  const options = JSON.stringify({ moduleName: mainModule, isScript })
  const module = (path: string, contents: string): ModuleDefinition => ({ type: 'ESModule', path, contents })
  const head = `import './__isola_prelude.js'
import { wrap } from './__isola_handlers.js'
`
  if (!isScript) {
    const entry = `${head}import * as exported from ${main}
export * from ${main}
export default wrap(exported.default, ${options})
`
    return [module('__isola_entry.js', entry)]
  }
  const entry = `${head}import { scriptHandlers } from './__isola_script.js'
import './__isola_globals.js'
import ${main}
export default wrap(scriptHandlers(), ${options})
`
  const globals = `import { defineGlobals } from './__isola_script.js'
defineGlobals({})
`
  return [module('__isola_entry.js', entry), module('__isola_globals.js', globals)]
}

/** Which worker a service binding stands for: of functions, only the one at hand is here. */
function workerOf(functionName: string, config: BuiltFunction['config']): string {
  return functionName === config.functionName ? functionName : `__isola_absent_${functionName}`
}

/** In the place of functions that the one at hand calls: each answers that it is not here. */
function absentWorkers(config: BuiltFunction['config']): WorkerOptions[] {
  const called = config.bindings.flatMap((binding) =>
    binding.type === 'service' ? [binding.functionName] : [],
  )
  return [...new Set(called)]
    .filter((name) => name !== config.functionName)
    .map((name) => {
      const message = `function "${name}" is not here: isola dev runs one function, deploy both to a node ("isola up") to see them together`
      const body = JSON.stringify({ error: { code: 'function_not_found', message, requestId: '' } })
      const init = { status: 404, headers: { 'content-type': 'application/json' } }
      const contents = `export default { fetch: () => new Response(${JSON.stringify(body)}, ${JSON.stringify(init)}) }`
      return {
        name: workerOf(name, config),
        compatibilityDate: config.compatibilityDate,
        modulesRoot: '.',
        modules: [{ type: 'ESModule', path: 'absent.js', contents }],
      }
    })
}

/** The modules that instances have around the function, whichever there are. */
function instanceModules(): ModuleDefinition[] {
  const directory = new URL('../../runtime/isolate/guest/', import.meta.url)
  return (
    readdirSync(directory)
      // miniflare has rate limits of its own.
      .filter((file) => file !== 'requests.js' && file !== 'rate-limit.js')
      .map((file) => ({
        type: 'ESModule',
        // No request ids in the terminal, and so no compatibility flag that the function did not ask for.
        path: `__isola_${file === 'requests-untracked.js' ? 'requests.js' : file}`,
        contents: readFileSync(new URL(file, directory), 'utf8'),
      }))
  )
}

/** Lines of stacks in terms of the sources, as the logs of a node have them. */
export function stackMapperOf({ bundle }: BuiltFunction): (line: string) => string {
  const sourceMaps = bundle.modules.filter(({ kind }) => kind === 'sourcemap')
  const map = createStackMapper(new Map(sourceMaps.map(({ name, body }) => [name, body])))
  // miniflare names modules by where they would be below the working directory.
  const root = pathToFileURL(`${process.cwd()}/`).href
  return (line) => (/^\s+at /.test(line) ? map(line.replace(root, 'file:///bundle/')) : line)
}

/** A stack line of the modules that isola puts around a function. */
export function isFrameOfIsola(line: string): boolean {
  return /^\s+at .*\/__isola_\w+\.js:\d+:\d+\)?$/.test(line)
}

/** An instance marks its log lines for the agent; a person reads them without. */
export function withoutLogMarks(text: string): string {
  // oxlint-disable-next-line no-control-regex -- the marks are control characters, so that no text has them by chance
  return text.replaceAll(/\x01[a-z][\w.:-]*(?:\x02|\x03 ?)/g, '')
}

function moduleDefinition({ name, kind, body }: Module): ModuleDefinition[] {
  const text = (): string => Buffer.from(body).toString('utf8')
  switch (kind) {
    case 'esm':
      return [{ type: 'ESModule', path: name, contents: text() }]
    case 'cjs':
      return [{ type: 'CommonJS', path: name, contents: text() }]
    case 'text':
      return [{ type: 'Text', path: name, contents: text() }]
    case 'data':
      return [{ type: 'Data', path: name, contents: body }]
    case 'wasm':
      return [{ type: 'CompiledWasm', path: name, contents: body }]
    // miniflare has no JSON modules; one with the same default export is the same to whoever imports it.
    case 'json':
      return [{ type: 'ESModule', path: name, contents: `export default ${text()}` }]
    case 'sourcemap':
      return []
  }
}

/** What is a value to the function. A function that was not deployed is no version, and has a made-up one. */
function variableEntry(binding: Binding): [string, never][] {
  switch (binding.type) {
    case 'text':
      return [[binding.name, binding.text as never]]
    case 'json':
      return [[binding.name, binding.json as never]]
    case 'version-metadata': {
      const id = '00000000-0000-0000-0000-000000000000'
      return [[binding.name, { id, tag: '', timestamp: new Date().toISOString() } as never]]
    }
    default:
      return []
  }
}

function rateLimitEntry(
  binding: Binding,
): [string, { namespace_id: string; simple: { limit: number; period: 10 | 60 } }][] {
  if (binding.type !== 'rate-limit') return []
  const { name, namespaceId, limit, periodS } = binding
  return [[name, { namespace_id: namespaceId, simple: { limit, period: periodS } }]]
}
