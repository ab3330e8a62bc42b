/**
 * The bindings of an upload, all or none: every problem is in the one answer, so that nobody deploys ten times to find ten.
 * What the upload inherits and keeps is resolved here, against the function's newest version.
 */
import type { Binding } from '../../sdk/model/function.ts'
import { isRefusal, type BindingContext, type BindingRefusal, type BindingUpload } from './binding-type.ts'
import { BINDING_TYPES } from './binding-types.ts'
import { showBinding } from './show-binding.ts'
import { unsupportedBinding } from './unsupported.ts'

export type BindingsReading =
  | { readonly bindings: readonly Binding[] }
  | { readonly refusals: readonly [BindingRefusal, ...BindingRefusal[]] }

/** `uploads` as they came: the value of `metadata.bindings`, whatever it is. Absent is none. */
export function readBindings(uploads: unknown, context: BindingContext): BindingsReading {
  const found: Binding[] = []
  const refusals: BindingRefusal[] = []
  const names = new Set<string>()
  const elements = uploads === undefined || uploads === null ? [] : uploads
  if (!Array.isArray(elements)) return { refusals: [{ refused: '"bindings" is not a list: send an array' }] }
  for (const [index, upload] of (elements as unknown[]).entries()) {
    if (!isUpload(upload)) {
      refusals.push({
        refused: `binding ${index} has no "name" and "type" as text: send an object that has both`,
      })
      continue
    }
    if (names.has(upload.name)) {
      refusals.push({ refused: `binding "${upload.name}" is there twice: give each its own name` })
      continue
    }
    names.add(upload.name)
    const reading = readOne(upload, context)
    if (isRefusal(reading)) refusals.push(reading)
    else found.push(reading)
  }
  const [first, ...others] = refusals
  if (first !== undefined) return { refusals: [first, ...others] }
  return { bindings: [...found, ...keptBindings(names, context)] }
}

/** Why each of those is refused that need something isola does not have; for who refuses the upload without reading it. */
export function unsupportedBindings(uploads: unknown): readonly string[] {
  if (!Array.isArray(uploads)) return []
  return (uploads as unknown[])
    .filter(isUpload)
    .filter(({ type }) => type !== 'inherit' && !BINDING_TYPES.some((known) => known.type === type))
    .map((upload) => unsupportedBinding(upload))
}

/** All refusals as one text. */
export function refusalText(refusals: readonly BindingRefusal[]): string {
  return refusals.map(({ refused }) => refused).join('\n')
}

function readOne(upload: BindingUpload, context: BindingContext): Binding | BindingRefusal {
  if (upload.type === 'inherit') return inherit(upload, context)
  const type = BINDING_TYPES.find(({ type }) => type === upload.type)
  return type?.read(upload, context) ?? { refused: unsupportedBinding(upload) }
}

function inherit(upload: BindingUpload, context: BindingContext): Binding | BindingRefusal {
  const { name, old_name: oldName } = upload
  if (oldName !== undefined && oldName !== name) {
    return {
      refused: `inherit binding '${name}' is invalid: it asks for another name's binding, and each keeps its own here: send it anew`,
      isInherit: true,
    }
  }
  const binding = context.previous.find((each) => each.name === name)
  if (binding !== undefined && isStillPossible(binding, context)) return binding
  const problem =
    binding === undefined
      ? context.previous.length === 0
        ? 'there is no version before that has bindings'
        : 'the version before has no binding of that name'
      : 'what it stands for is not in this upload'
  return {
    refused: `inherit binding '${name}' is invalid: ${problem}: set it in the upload`,
    isInherit: true,
  }
}

/** A binding to a part of the version itself does not outlive the part. */
function isStillPossible(binding: Binding, { modules, hasAssets }: BindingContext): boolean {
  if (binding.type === 'assets') return hasAssets
  return binding.type !== 'module' || modules.has(binding.module)
}

function keptBindings(names: ReadonlySet<string>, context: BindingContext): Binding[] {
  const { previous, keep, modules } = context
  return previous.filter(
    (binding) =>
      !names.has(binding.name) &&
      isStillPossible(binding, context) &&
      keep.includes(showBinding(binding, modules).type),
  )
}

function isUpload(upload: unknown): upload is BindingUpload {
  if (typeof upload !== 'object' || upload === null) return false
  return (
    'name' in upload && typeof upload.name === 'string' && 'type' in upload && typeof upload.type === 'string'
  )
}
