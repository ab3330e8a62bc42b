import { dirname, resolve } from 'node:path'
import type { BuildOptions } from '../../bundler/build-options.ts'
import { parseFunctionName, type Binding, type VersionLimits } from '../../sdk/model/function.ts'
import { readBuildOptions } from './build.ts'
import { checkShape } from '../../sdk/config/check-shape.ts'
import { checkCompatibilityDate } from '../../sdk/config/compatibility-date.ts'
import type { ConfigDocument, ConfigPath } from '../../sdk/config/document.ts'
import { chooseEnvironment, type ChosenFields } from './environment.ts'
import { configNotFound, readConfigDocument } from './find-config.ts'
import { formatWarning, howToGive, problemsError, showField, type Problem } from '../../sdk/config/problem.ts'
import { readOtherBindings } from './other-bindings.ts'
import { readRoutes } from './routes.ts'
import { readStaticFiles } from './assets.ts'
import type { AssetsSource } from '../../sdk/config/function-config.ts'
import { readServices } from './services.ts'
import { CONFIG_SHAPE } from './schema.ts'
import { checkSupport } from './support.ts'
import { isFileSync } from '../../sdk/config/read-document.ts'
import { readVariables } from '../../sdk/config/variables.ts'

export interface LoadOptions {
  readonly directory: string
  /** Instead of `wrangler.json`, `wrangler.jsonc` or `wrangler.toml` in `directory`; relative to it. */
  readonly file?: string
  /** A key of `env`. @default the top level */
  readonly environment?: string
  /** Instead of the file's `main`; relative to `directory`. With it no file is needed. */
  readonly main?: string
  /** Instead of the file's name; an environment is not appended. */
  readonly name?: string
  /** Instead of the file's `compatibility_date`. */
  readonly compatibilityDate?: string
}

/** Everything a deploy needs to know but the code. */
export interface LoadedConfig {
  /** Absolute. Absent where there is none and the options said it all. */
  readonly file?: string
  readonly projectDirectory: string
  readonly functionName: string
  /** Its `main` is empty where there is no code and all are static files. */
  readonly build: BuildOptions
  readonly assets?: AssetsSource
  readonly bindings: readonly Binding[]
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
  readonly limits: Partial<VersionLimits>
  readonly routes: readonly { readonly pattern: string }[]
  /** Of `workers_dev`. @default true */
  readonly baseDomainHost: boolean
  /** Of `preview_urls`. @default as `baseDomainHost` */
  readonly previewHosts: boolean
  /** For people, with file and line: fields that have no effect here, and the like. */
  readonly warnings: readonly string[]
}

/**
 * Reads a wrangler configuration. All that is wrong with it comes in one error (`details.problems`):
 * `config_not_found`, `config_invalid`, or `config_unsupported` where all else is well but isola lacks something.
 */
export async function loadConfig(options: LoadOptions): Promise<LoadedConfig> {
  const read = await readConfigDocument(options)
  if (read === undefined && options.main === undefined) throw configNotFound(options.directory)
  const document = read?.document
  const chosen = chooseFields(document, options)
  const { fields, pathOf } = chosen

  const problems: Problem[] = []
  const projectDirectory = document === undefined ? resolve(options.directory) : dirname(document.file)
  const name = options.name ?? fields.name
  problems.push(...checkName(name, { path: pathOf('name'), document }))
  const compatibilityDate = options.compatibilityDate ?? fields.compatibility_date
  const dateProblem = checkCompatibilityDate(compatibilityDate, document, 'compatibility_date')
  if (dateProblem !== undefined) {
    problems.push({ code: 'config_invalid', path: pathOf('compatibility_date'), message: dateProblem })
  }
  const given = options.main === undefined ? fields.main : resolve(options.directory, options.main)
  const hasCode = given !== undefined || fields.assets === undefined
  const main = hasCode ? given : ''
  if (hasCode) problems.push(...checkMain(main, { projectDirectory, chosen, document }))
  const variables = readVariables(fields.vars, pathOf('vars'))
  const services = readServices(chosen)
  const own = [...variables.bindings, ...services.bindings]
  const others = readOtherBindings(chosen, own)
  problems.push(...others.problems)
  const otherBindings = [...own, ...others.bindings]
  const assets = readStaticFiles(chosen, { projectDirectory, hasCode, otherBindings })
  const routes = readRoutes(chosen)
  const support = checkSupport(fields, pathOf)
  problems.push(...variables.problems, ...services.problems, ...assets.problems)
  problems.push(...routes.problems, ...support.problems)
  if (problems.length > 0 || name === undefined || main === undefined || compatibilityDate === undefined) {
    throw problemsError(problems, document)
  }

  const build = readBuildOptions(chosen, { projectDirectory, main, compatibilityDate })
  const baseDomainHost = fields.workers_dev ?? true
  const ignored = (read?.ignored ?? []).map(
    (file) => `${file} is not read, because ${document?.fileName} comes first: remove one of them`,
  )
  const located = [
    ...chosen.warnings,
    ...routes.warnings,
    ...support.warnings,
    ...assets.warnings,
    ...build.warnings,
  ]
  return {
    ...(document !== undefined && { file: document.file }),
    projectDirectory,
    functionName: name,
    build: build.options,
    ...(assets.assets !== undefined && { assets: assets.assets }),
    bindings: hasCode ? [...otherBindings, ...assets.bindings] : [],
    compatibilityDate,
    compatibilityFlags: fields.compatibility_flags ?? [],
    limits: fields.limits?.cpu_ms === undefined ? {} : { cpuMs: fields.limits.cpu_ms },
    routes: routes.routes,
    baseDomainHost,
    previewHosts: fields.preview_urls ?? baseDomainHost,
    warnings: [...ignored, ...located.map((warning) => formatWarning(warning, document))],
  }
}

function chooseFields(document: ConfigDocument | undefined, options: LoadOptions): ChosenFields {
  const shape = checkShape(document?.value ?? {}, CONFIG_SHAPE)
  if ('problems' in shape) throw problemsError(shape.problems, document)
  const chosen = chooseEnvironment(shape.config, options.environment)
  if ('code' in chosen) throw problemsError([chosen], document)
  return chosen
}

function checkName(
  name: string | undefined,
  { path, document }: { path: ConfigPath; document: ConfigDocument | undefined },
): readonly Problem[] {
  if (name === undefined) {
    return [
      {
        code: 'config_invalid',
        path,
        message: `"name" is missing: ${howToGive('name', 'my-function', document)}`,
      },
    ]
  }
  try {
    parseFunctionName(name)
    return []
  } catch (error) {
    return [{ code: 'config_invalid', path, message: (error as Error).message }]
  }
}

function checkMain(
  main: string | undefined,
  {
    projectDirectory,
    chosen,
    document,
  }: { projectDirectory: string; chosen: ChosenFields; document: ConfigDocument | undefined },
): readonly Problem[] {
  const path = chosen.pathOf('main')
  if (main === undefined) {
    return [
      {
        code: 'config_invalid',
        path,
        message: `"main" is missing: add ${showField('main', 'src/index.ts', document)}, the file with the default export`,
      },
    ]
  }
  // A build command makes it; the bundler looks again afterwards.
  if (chosen.fields.build?.command !== undefined) return []
  const absolute = resolve(projectDirectory, main)
  const isFile = isFileSync(absolute)
  return isFile
    ? []
    : [
        {
          code: 'config_invalid',
          path,
          message: `"main" is ${JSON.stringify(main)}, but ${absolute} is not a file: correct the path`,
        },
      ]
}
