import type { ModuleKind } from '../../sdk/model/bundle.ts'
import type { Binding } from '../../sdk/model/function.ts'
import { BINDING_TYPES } from './binding-types.ts'

/** As it was uploaded, without what is secret. */
export interface ShownBinding {
  readonly name: string
  readonly type: string
  readonly [field: string]: unknown
}

/** `modules` are those of its version, by name. */
export function showBinding(binding: Binding, modules: ReadonlyMap<string, ModuleKind>): ShownBinding {
  const moduleKind = binding.type === 'module' ? modules.get(binding.module) : undefined
  for (const { type, show } of BINDING_TYPES) {
    const fields = show(binding, moduleKind)
    if (fields !== undefined) return { name: binding.name, type, ...fields }
  }
  return { name: binding.name, type: binding.type }
}
