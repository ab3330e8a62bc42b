import { readdirSync, readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import type { ModuleDefinition, WorkerOptions } from 'miniflare'
import { createStackMapper } from '../../runtime/isolate/stack-map.ts'
import type { Module } from '../model/bundle.ts'
import type { Binding } from '../model/function.ts'
import type { BuiltFunction } from './build-function.ts'

/**
 * A function as miniflare's workers: itself inside the same handlers that an instance has, and a gateway before it
 * that does the router's part. So a throw, a missing handler or a wrong result is answered as on a node.
 */
export function devWorkers(built: BuiltFunction): WorkerOptions[] {
  const { bundle, config } = built
  const main = JSON.stringify(`./${bundle.mainModule}`)
  const entry = `import './__isola_prelude.js'
import * as exported from ${main}
import { wrap } from './__isola_handlers.js'
export * from ${main}
export default wrap(exported.default, { moduleName: ${JSON.stringify(bundle.mainModule)} })
`
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
      modules: [
        { type: 'ESModule', path: '__isola_entry.js', contents: entry },
        ...instanceModules(),
        ...bundle.modules.flatMap(moduleDefinition),
      ],
      bindings: Object.fromEntries(config.bindings.flatMap(variableEntry)),
      serviceBindings: Object.fromEntries(
        config.bindings.flatMap((binding) =>
          binding.type === 'service' ? [[binding.name, workerOf(binding.functionName, config)]] : [],
        ),
      ),
    },
    ...absentWorkers(config),
  ]
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
  return readdirSync(directory)
    .filter((file) => file !== 'requests.js')
    .map((file) => ({
      type: 'ESModule',
      // No request ids in the terminal, and so no compatibility flag that the function did not ask for.
      path: `__isola_${file === 'requests-untracked.js' ? 'requests.js' : file}`,
      contents: readFileSync(new URL(file, directory), 'utf8'),
    }))
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

function variableEntry(binding: Binding): [string, never][] {
  if (binding.type !== 'text' && binding.type !== 'json') return []
  return [[binding.name, (binding.type === 'text' ? binding.text : binding.json) as never]]
}
