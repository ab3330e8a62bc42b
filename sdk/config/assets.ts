import { resolve } from 'node:path'
import { statSync } from 'node:fs'
import { assetsConfigProblems, normalAssetsConfig } from '../model/asset-manifest.ts'
import type { AssetsConfig, Binding } from '../model/function.ts'
import type { ConfigPath } from './document.ts'
import type { AssetsSource } from './function-config.ts'
import type { Problem } from './problem.ts'

interface GivenAssets {
  readonly directory: string | undefined
  readonly binding: string | undefined
  readonly config: AssetsConfig
  /** Of the field. */
  readonly path: ConfigPath
  /** What the file calls `runWorkerFirst`. */
  readonly runFirstField: string
  readonly projectDirectory: string
  /** There is code beside the files. */
  readonly hasCode: boolean
  /** A command makes the directory, and so it need not be there yet. */
  readonly isBuilt: boolean
  readonly otherBindings: readonly Binding[]
}

/** Static files of a function, with what is wrong about them. */
export function readAssets(given: GivenAssets): {
  readonly assets: AssetsSource | undefined
  readonly bindings: readonly Binding[]
  readonly problems: readonly Problem[]
} {
  const { directory, binding, config, path, runFirstField, hasCode } = given
  const problems: Problem[] = []
  const refuse = (message: string, ...keys: readonly string[]): void => {
    problems.push({ code: 'config_invalid', path: [...path, ...keys], message })
  }
  const absolute = directory === undefined ? undefined : resolve(given.projectDirectory, directory)
  if (absolute === undefined || directory === '') {
    refuse('"assets" has no "directory": name the directory of the static files, e.g. "./public"')
  } else if (!given.isBuilt && statSync(absolute, { throwIfNoEntry: false })?.isDirectory() !== true) {
    refuse(
      `"assets.directory" is ${JSON.stringify(directory)}, but ${absolute} is not a directory: build the site first, or correct the path`,
      'directory',
    )
  }
  for (const problem of assetsConfigProblems(config)) refuse(problem, runFirstField)
  const normal = normalAssetsConfig(config)
  if (!hasCode && binding !== undefined) {
    refuse('"assets.binding" is for code, and there is no "main": remove it, or add "main"', 'binding')
  }
  if (!hasCode && normal.runWorkerFirst !== undefined) {
    refuse(
      `"assets.${runFirstField}" is for code, and there is no "main": remove it, or add "main"`,
      runFirstField,
    )
  }
  if (binding !== undefined && given.otherBindings.some(({ name }) => name === binding)) {
    refuse(`binding "${binding}" is there twice: give each its own name`, 'binding')
  }
  if (problems.length > 0 || absolute === undefined) return { assets: undefined, bindings: [], problems }
  return {
    assets: { directory: absolute, config: normal },
    bindings: binding === undefined ? [] : [{ type: 'assets', name: binding }],
    problems,
  }
}
