import { readAssets } from '../../sdk/config/assets.ts'
import type { ConfigPath } from '../../sdk/config/document.ts'
import type { AssetsSource } from '../../sdk/config/function-config.ts'
import type { Problem } from '../../sdk/config/problem.ts'
import type { Binding } from '../../sdk/model/function.ts'
import type { ChosenFields } from './environment.ts'

interface StaticFiles {
  readonly assets: AssetsSource | undefined
  readonly bindings: readonly Binding[]
  readonly problems: readonly Problem[]
  readonly warnings: readonly { readonly path: ConfigPath; readonly message: string }[]
}

/** `assets`, for the code or, where there is none, instead of it. Then nothing is there that bindings could be for. */
export function readStaticFiles(
  { fields, pathOf }: ChosenFields,
  given: {
    readonly projectDirectory: string
    readonly hasCode: boolean
    readonly otherBindings: readonly Binding[]
  },
): StaticFiles {
  if (fields.assets === undefined) return { assets: undefined, bindings: [], problems: [], warnings: [] }
  const { directory, binding, html_handling, not_found_handling, run_worker_first } = fields.assets
  const { projectDirectory, hasCode, otherBindings } = given
  const read = readAssets({
    directory,
    binding,
    config: {
      ...(html_handling !== undefined && { htmlHandling: html_handling }),
      ...(not_found_handling !== undefined && { notFoundHandling: not_found_handling }),
      ...(run_worker_first !== undefined && { runWorkerFirst: run_worker_first }),
    },
    path: pathOf('assets'),
    runFirstField: 'run_worker_first',
    projectDirectory,
    hasCode,
    isBuilt: fields.build?.command !== undefined,
    otherBindings,
  })
  const idle = hasCode ? [] : (['vars', 'services'] as const)
  const warnings = idle
    .filter((field) => Object.keys(fields[field] ?? {}).length > 0)
    .map((field) => ({
      path: pathOf(field),
      message: `"${field}" has no effect: there is no "main", and static files have no bindings`,
    }))
  return { ...read, warnings }
}
