import type { Binding } from '../../sdk/model/function.ts'
import type { ConfigPath } from '../../sdk/config/document.ts'
import type { Problem } from '../../sdk/config/problem.ts'
import { readBindings } from '../bindings/read-bindings.ts'
import type { ChosenFields } from './environment.ts'

/** A binding as wrangler would upload it, and where the configuration has it. */
interface Entry {
  readonly upload: unknown
  readonly path: ConfigPath
}

/**
 * Bindings that a configuration has in fields of their own. Each is made what wrangler would upload and read as that, so that
 * both ways make the same version and refuse with the same words. `taken`: names that others have.
 */
export function readOtherBindings(
  chosen: ChosenFields,
  taken: readonly Binding[],
): { readonly bindings: readonly Binding[]; readonly problems: readonly Problem[] } {
  const problems: Problem[] = []
  const bindings: Binding[] = []
  const names = new Set(taken.map(({ name }) => name))
  for (const { upload, path } of entriesOf(chosen)) {
    const reading = readBindings([upload], {
      previous: [],
      keep: [],
      modules: new Map(),
      hasAssets: false,
      seal: () => '',
    })
    if ('refusals' in reading) {
      for (const { refused } of reading.refusals) {
        problems.push({ code: 'config_unsupported', path, message: refused })
      }
      continue
    }
    for (const binding of reading.bindings) {
      if (names.has(binding.name)) {
        const message = `binding "${binding.name}" is there twice: give each its own name`
        problems.push({ code: 'config_invalid', path, message })
      }
      names.add(binding.name)
      bindings.push(binding)
    }
  }
  return { bindings, problems }
}

function entriesOf({ fields, pathOf }: ChosenFields): readonly Entry[] {
  const { version_metadata: metadata, ratelimits, dispatch_namespaces: namespaces } = fields
  return [
    ...(isObject(metadata) && Object.keys(metadata).length > 0
      ? [{ upload: { name: metadata.binding, type: 'version_metadata' }, path: pathOf('version_metadata') }]
      : []),
    ...listOf(ratelimits, pathOf('ratelimits'), (entry) => ({ ...entry, type: 'ratelimit' })),
    ...listOf(namespaces, pathOf('dispatch_namespaces'), ({ binding, ...entry }) => ({
      ...entry,
      name: binding,
      type: 'dispatch_namespace',
    })),
  ]
}

function listOf(
  value: unknown,
  path: ConfigPath,
  toUpload: (entry: Readonly<Record<string, unknown>>) => unknown,
): readonly Entry[] {
  if (value === undefined || value === null) return []
  const elements: readonly unknown[] = Array.isArray(value) ? value : [value]
  return elements.map((element, index) => ({
    upload: isObject(element) ? toUpload(element) : element,
    path: [...path, index],
  }))
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
