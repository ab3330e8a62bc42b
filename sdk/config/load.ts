import { dirname, resolve } from 'node:path'
import { parseFunctionName } from '../model/function.ts'
import { IsolaError } from '../model/errors.ts'
import { checkShape } from './check-shape.ts'
import { readContainer } from './container.ts'
import type { ConfigDocument, ConfigPath } from './document.ts'
import { chooseEnvironment, type ChosenFields } from './environment.ts'
import type { FunctionConfig } from './function-config.ts'
import { formatWarning, problemsError, showField, type Problem } from './problem.ts'
import { isFile, readDocument } from './read-document.ts'
import { readRoutes } from './routes.ts'
import { CONFIG_SHAPE, ENVIRONMENT_RULES, type ConfigFields } from './schema.ts'
import { readSourceField } from './source-field.ts'
import { readVariables } from './variables.ts'
import { readWorker } from './worker.ts'

export interface LoadOptions {
  readonly directory: string
  /** Instead of `isola.jsonc` or `isola.json` in `directory`; relative to it. */
  readonly file?: string
  /** A key of `env`. @default the top level */
  readonly environment?: string
  /** Instead of the file's `main`; relative to `directory`. */
  readonly main?: string
  /** Instead of the file's name; an environment is not appended. */
  readonly name?: string
  /** Instead of the file's `compatibilityDate`. */
  readonly compatibilityDate?: string
}

const CONFIG_NAMES = ['isola.jsonc', 'isola.json'] as const
const OTHER_NAMES = ['wrangler.json', 'wrangler.jsonc', 'wrangler.toml'] as const

/** Whether a file is isola's configuration by its name: `isola.jsonc`, `isola.json`, `isola.staging.jsonc`. */
export function isIsolaConfigName(path: string): boolean {
  return /(?:^|[/\\])isola(?:\.[^/\\]+)?\.jsonc?$/.test(path)
}

/**
 * Reads `isola.jsonc` or `isola.json`; `undefined` where the directory has none. All that is wrong with one comes in one
 * error (`details.problems`), `config_invalid`; `config_not_found` for a file that was named and is not there.
 */
export async function loadIsolaConfig(options: LoadOptions): Promise<FunctionConfig | undefined> {
  const found = await findDocument(options)
  if (found === undefined) return undefined
  const { document, ignored } = found
  const chosen = chooseFields(document, options)
  const { fields, pathOf } = chosen
  const projectDirectory = dirname(document.file)
  const problems: Problem[] = []
  const name = options.name ?? fields.name
  problems.push(...checkName(name, pathOf('name'), document))
  const { bindings, problems: variableProblems } = readVariables(fields.vars, pathOf('vars'))
  const routes = readRoutes(fields.routes ?? [], pathOf('routes'))
  const source = readSourceField(chosen)
  problems.push(...variableProblems, ...routes.problems, ...source.problems)

  const { memoryMib, cpuMs } = fields
  const baseDomainHost = fields.baseDomainHost ?? true
  const common = (warnings: ChosenFields<ConfigFields>['warnings']) => ({
    file: document.file,
    projectDirectory,
    functionName: name ?? '',
    limits: { ...(cpuMs !== undefined && { cpuMs }), ...(memoryMib !== undefined && { memoryMib }) },
    routes: routes.routes,
    baseDomainHost,
    previewHosts: fields.previewHosts ?? baseDomainHost,
    warnings: [
      ...ignored.map(
        (file) => `${file} is not read, because ${document.fileName} comes first: remove one of them`,
      ),
      ...[...chosen.warnings, ...source.warnings, ...warnings].map((warning) =>
        formatWarning(warning, document),
      ),
    ],
  })
  const { sourceField } = source
  if (sourceField === 'main') {
    const compatibilityDate = options.compatibilityDate ?? fields.compatibilityDate
    const { main } = fields
    const given = { document, projectDirectory, main, compatibilityDate, variables: bindings }
    const worker = readWorker(chosen, given)
    problems.push(...worker.problems)
    if (problems.length > 0) throw problemsError(problems, document)
    return {
      kind: 'worker',
      ...common(worker.warnings),
      build: worker.build,
      ...(worker.assets !== undefined && { assets: worker.assets }),
      bindings: worker.bindings,
      compatibilityDate: worker.build.compatibilityDate,
      compatibilityFlags: worker.build.compatibilityFlags,
    }
  }
  if (sourceField === undefined) throw problemsError(problems, document)
  const container = readContainer(chosen, { sourceField, projectDirectory })
  problems.push(...container.problems)
  if (problems.length > 0 || container.source === undefined) throw problemsError(problems, document)
  const { protocol, source: sourceConfig, settings } = container
  return {
    kind: 'container',
    ...common(container.warnings),
    protocol,
    source: sourceConfig,
    settings,
    bindings,
  }
}

async function findDocument({
  directory,
  file,
}: LoadOptions): Promise<{ document: ConfigDocument; ignored: readonly string[] } | undefined> {
  if (file !== undefined) {
    const path = resolve(directory, file)
    if (await isFile(path)) return { document: await readDocument(path), ignored: [] }
    throw new IsolaError('config_not_found', `there is no configuration ${path}: correct the path`)
  }
  const found: string[] = []
  for (const name of [...CONFIG_NAMES, ...OTHER_NAMES]) {
    if (await isFile(resolve(directory, name))) found.push(name)
  }
  const [chosen, ...ignored] = found
  if (chosen === undefined || !isIsolaConfigName(chosen)) return undefined
  return { document: await readDocument(resolve(directory, chosen)), ignored }
}

function chooseFields(document: ConfigDocument, options: LoadOptions): ChosenFields<ConfigFields> {
  const shape = checkShape(document.value, CONFIG_SHAPE)
  if ('problems' in shape) throw problemsError(shape.problems, document)
  const chosen = chooseEnvironment<ConfigFields>(shape.config, options.environment, ENVIRONMENT_RULES)
  if ('code' in chosen) throw problemsError([chosen], document)
  if (options.main === undefined) return chosen
  return { ...chosen, fields: { ...chosen.fields, main: resolve(options.directory, options.main) } }
}

function checkName(name: string | undefined, path: ConfigPath, document: ConfigDocument): readonly Problem[] {
  const refuse = (message: string): readonly Problem[] => [{ code: 'config_invalid', path, message }]
  if (name === undefined)
    return refuse(`"name" is missing: add ${showField('name', 'my-function', document)}`)
  try {
    parseFunctionName(name)
    return []
  } catch (error) {
    return refuse((error as Error).message)
  }
}
