/**
 * The seam between bindings as Cloudflare's API writes them and as isola has them. One small module per type says how it is
 * read and how it is shown; `binding-types.ts` lists them, and nothing else knows which there are. The next type is one
 * module and one line there.
 */
import { z } from 'zod'
import type { ModuleKind } from '../../sdk/model/bundle.ts'
import type { Binding } from '../../sdk/model/function.ts'

/** An element of `metadata.bindings`; what it has beside name and type is its type's business. */
export interface BindingUpload {
  readonly name: string
  readonly type: string
  readonly [field: string]: unknown
}

/** What reading bindings needs to know of the version that they are for. */
export interface BindingContext {
  /** Bindings of the function's newest version: what `inherit` and `keep` take from. Empty where there is none. */
  readonly previous: readonly Binding[]
  /** Cloudflare's names of types whose bindings stay unless the upload sets them anew: its `keep_bindings`. */
  readonly keep: readonly string[]
  /** The version's modules by name: that of the part, without a leading "./". */
  readonly modules: ReadonlyMap<string, ModuleKind>
  readonly hasAssets: boolean
  /** Closes a secret of this function, as a `SecretBox` does. */
  seal(secret: { readonly name: string; readonly text: string }): string
}

/** Why a binding is not taken, for a person: it names the binding. */
export interface BindingRefusal {
  readonly refused: string
  /** An `inherit` of what is not there, for which the API has a code of its own. */
  readonly isInherit?: true
}

export interface BindingType {
  /** As Cloudflare calls it. */
  readonly type: string
  read(upload: BindingUpload, context: BindingContext): Binding | BindingRefusal
  /**
   * The fields beside name and type that the API gives back, without secrets; `undefined` for bindings that are not of this
   * type. `moduleKind` is that of the module that the binding names.
   */
  show(binding: Binding, moduleKind: ModuleKind | undefined): Record<string, unknown> | undefined
}

export function isRefusal(reading: Binding | BindingRefusal): reading is BindingRefusal {
  return 'refused' in reading
}

/** A type whose fields are described; those that are wrong are refused before `read`, each by its name. */
export function bindingType<Fields>(definition: {
  readonly type: string
  readonly fields: z.ZodType<Fields>
  read(upload: Fields & { readonly name: string }, context: BindingContext): Binding | BindingRefusal
  readonly show: BindingType['show']
}): BindingType {
  const { type, fields, read, show } = definition
  return {
    type,
    show,
    read(upload, context) {
      const { success, data, error } = fields.safeParse(upload)
      if (success) return read({ ...data, name: upload.name }, context)
      const [issue] = error.issues
      const field = issue?.path.join('.') ?? ''
      return {
        refused: `binding "${upload.name}" of type "${type}" has ${field === '' ? 'wrong fields' : `a wrong "${field}"`} (${issue?.message}): correct it in the configuration`,
      }
    },
  }
}
