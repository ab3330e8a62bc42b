import { z } from 'zod'
import type { ModuleKind } from '../../sdk/model/bundle.ts'
import { bindingType, type BindingType } from './binding-type.ts'

/** Modules that a script of the service-worker format finds as global variables. */
export const wasmModule = moduleBinding('wasm_module', 'wasm')
export const textBlob = moduleBinding('text_blob', 'text')
export const dataBlob = moduleBinding('data_blob', 'data')

function moduleBinding(type: string, kind: ModuleKind): BindingType {
  return bindingType({
    type,
    fields: z.object({ part: z.string().min(1) }),
    read({ name, part }, { modules }) {
      const module = part.replace(/^\.\//, '')
      const found = modules.get(module)
      if (found === kind) return { type: 'module', name, module }
      const problem = found === undefined ? 'which the upload does not have' : `which is of kind "${found}"`
      return {
        refused: `binding "${name}" of type "${type}" names the part ${JSON.stringify(part)}, ${problem}: send it as a module of kind "${kind}"`,
      }
    },
    show: (binding, moduleKind) =>
      binding.type === 'module' && moduleKind === kind ? { part: binding.module } : undefined,
  })
}
