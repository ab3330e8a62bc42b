import { readFileSync } from 'node:fs'
import type { ModuleDefinition, WorkerOptions } from 'miniflare'
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
export default wrap(exported.default, { moduleName: ${JSON.stringify(bundle.mainModule)}, collectEveryRequests: 0 })
`
  return [
    {
      name: '__isola_gateway',
      compatibilityDate: config.compatibilityDate,
      modulesRoot: '.',
      modules: [{ type: 'ESModule', path: 'gateway.js', contents: guestSource('./guest/gateway.js') }],
      serviceBindings: { FUNCTION: config.functionName },
    },
    {
      name: config.functionName,
      compatibilityDate: config.compatibilityDate,
      compatibilityFlags: [...config.compatibilityFlags],
      modulesRoot: '.',
      modules: [
        { type: 'ESModule', path: '__isola_entry.js', contents: entry },
        instanceModule('prelude', 'prelude'),
        instanceModule('handlers', 'handlers'),
        // No ids in the terminal, and so no compatibility flag that the function did not ask for.
        instanceModule('requests', 'requests-untracked'),
        ...bundle.modules.flatMap(moduleDefinition),
      ],
      bindings: Object.fromEntries(config.bindings.map(bindingEntry)),
    },
  ]
}

/** A module that instances have around the function. */
function instanceModule(name: string, file: string): ModuleDefinition {
  const contents = guestSource(`../../runtime/isolate/guest/${file}.js`)
  return { type: 'ESModule', path: `__isola_${name}.js`, contents }
}

/** An instance marks its log lines for the agent; a person reads them without. */
export function withoutLogMarks(text: string): string {
  // oxlint-disable-next-line no-control-regex -- the marks are control characters, so that no text has them by chance
  return text.replaceAll(/\x01[a-z][\w.:-]*(?:\x02|\x03 ?)/g, '')
}

function guestSource(path: string): string {
  return readFileSync(new URL(path, import.meta.url), 'utf8')
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

function bindingEntry(binding: Binding): [string, never] {
  return [binding.name, (binding.type === 'text' ? binding.text : binding.json) as never]
}
