import { resolve } from 'node:path'
import type { BuildOptions } from '../../bundler/build-options.ts'
import type { Binding } from '../model/function.ts'
import { parseFunctionName } from '../model/function.ts'
import { readAssets } from './assets.ts'
import { checkCompatibilityDate } from './compatibility-date.ts'
import type { ConfigDocument, ConfigPath } from './document.ts'
import type { ChosenFields } from './environment.ts'
import type { AssetsSource } from './function-config.ts'
import type { Problem } from './problem.ts'
import { isFileSync } from './read-document.ts'
import type { ConfigFields } from './schema.ts'

interface ReadWorker {
  readonly build: BuildOptions
  readonly assets: AssetsSource | undefined
  readonly bindings: readonly Binding[]
  readonly problems: readonly Problem[]
  readonly warnings: readonly { readonly path: ConfigPath; readonly message: string }[]
}

/** The fields of a worker function. `main` and `compatibilityDate` are with what the command line says instead. */
export function readWorker(
  { fields, pathOf }: ChosenFields<ConfigFields>,
  given: {
    readonly document: ConfigDocument
    readonly projectDirectory: string
    /** Absent: all are static files. */
    readonly main: string | undefined
    readonly compatibilityDate: string | undefined
    readonly variables: readonly Binding[]
  },
): ReadWorker {
  const { document, projectDirectory, main, compatibilityDate, variables } = given
  const problems: Problem[] = []
  const warnings: { path: ConfigPath; message: string }[] = []
  const refuse = (path: ConfigPath, message: string): void => {
    problems.push({ code: 'config_invalid', path, message })
  }
  const absolute = main === undefined ? undefined : resolve(projectDirectory, main)
  if (absolute !== undefined && !isFileSync(absolute)) {
    refuse(
      pathOf('main'),
      `"main" is ${JSON.stringify(main)}, but ${absolute} is not a file: correct the path`,
    )
  }
  const dateProblem = checkCompatibilityDate(compatibilityDate, document, 'compatibilityDate')
  if (dateProblem !== undefined) refuse(pathOf('compatibilityDate'), dateProblem)
  if (fields.noBundle === true) {
    for (const field of ['define', 'alias'] as const) {
      if (fields[field] === undefined) continue
      warnings.push({ path: pathOf(field), message: `"${field}" has no effect with "noBundle"` })
    }
  }
  const build: BuildOptions = {
    projectDirectory,
    main: main ?? '',
    compatibilityDate: compatibilityDate ?? '',
    compatibilityFlags: fields.compatibilityFlags ?? [],
    ...(fields.noBundle !== undefined && { noBundle: fields.noBundle }),
    ...(fields.rules !== undefined && {
      rules: fields.rules.map(({ type, globs, fallthrough }) => ({
        type,
        globs,
        ...(fallthrough !== undefined && { fallthrough }),
      })),
    }),
    ...(fields.define !== undefined && { define: fields.define }),
    ...(fields.alias !== undefined && { alias: fields.alias }),
  }
  const bindings = [...variables, ...readServices(fields, pathOf('services'), refuse)]
  const hasCode = main !== undefined
  if (fields.assets === undefined) return { build, assets: undefined, bindings, problems, warnings }
  const {
    directory: assetsDirectory,
    binding,
    htmlHandling,
    notFoundHandling,
    runWorkerFirst,
  } = fields.assets
  const files = readAssets({
    directory: assetsDirectory,
    binding,
    config: {
      ...(htmlHandling !== undefined && { htmlHandling }),
      ...(notFoundHandling !== undefined && { notFoundHandling }),
      ...(runWorkerFirst !== undefined && { runWorkerFirst }),
    },
    path: pathOf('assets'),
    runFirstField: 'runWorkerFirst',
    projectDirectory,
    hasCode,
    isBuilt: false,
    otherBindings: bindings,
  })
  problems.push(...files.problems)
  if (!hasCode && bindings.length > 0) {
    const message =
      'variables and services have no effect: there is no "main", and static files have no bindings'
    warnings.push({ path: pathOf(fields.vars === undefined ? 'services' : 'vars'), message })
  }
  return {
    build,
    assets: files.assets,
    bindings: hasCode ? [...bindings, ...files.bindings] : [],
    problems,
    warnings,
  }
}

function readServices(
  fields: ConfigFields,
  path: ConfigPath,
  refuse: (path: ConfigPath, message: string) => void,
): Binding[] {
  const names = new Set(Object.keys(fields.vars ?? {}))
  return (fields.services ?? []).map(({ binding, service }, index) => {
    const at = [...path, index]
    if (binding === '') refuse([...at, 'binding'], 'a service binding has an empty name: give it one')
    if (names.has(binding)) {
      refuse([...at, 'binding'], `two bindings are named "${binding}": give each its own name`)
    }
    names.add(binding)
    try {
      parseFunctionName(service)
    } catch (error) {
      refuse([...at, 'service'], (error as Error).message)
    }
    return { type: 'service', name: binding, functionName: service }
  })
}
