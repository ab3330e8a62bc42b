import { Miniflare } from 'miniflare'
import { onTestFinished } from 'vitest'
import type { Bundle } from '../../sdk/model/bundle.ts'

const MODULE_TYPES = {
  esm: 'ESModule',
  cjs: 'CommonJS',
  wasm: 'CompiledWasm',
  text: 'Text',
  data: 'Data',
  json: 'Text',
  sourcemap: 'Text',
} as const

/** What the function answers when the runtime itself loads the bundle. */
export async function answer(
  built: Bundle,
  options: { flags?: string[]; path?: string; vars?: Record<string, string> } = {},
) {
  const modules = built.modules.filter(({ kind }) => kind !== 'sourcemap')
  const sorted = modules.toSorted(
    (a, b) => Number(b.name === built.mainModule) - Number(a.name === built.mainModule),
  )
  const miniflare = new Miniflare({
    modules: sorted.map(({ name, kind, body }) => ({ type: MODULE_TYPES[kind], path: name, contents: body })),
    compatibilityDate: '2026-01-01',
    compatibilityFlags: options.flags ?? [],
    bindings: options.vars ?? {},
  })
  onTestFinished(() => miniflare.dispose())
  const response = await miniflare.dispatchFetch(`http://localhost${options.path ?? '/'}`)
  return response.text()
}

export function mainCode({ mainModule, modules }: Bundle): string {
  return Buffer.from(modules.find(({ name }) => name === mainModule)?.body ?? []).toString()
}
