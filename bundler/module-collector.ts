import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { basename, relative } from 'node:path'
import type { OnResolveArgs, OnResolveResult, Plugin, PluginBuild } from 'esbuild'
import type { Module } from '../sdk/model/bundle.ts'
import { BUNDLE_LIMITS } from '../sdk/model/limits.ts'
import { describeEndedRule, matchRule, specifierFilter, type RuleSet } from './module-rules.ts'

/**
 * Files that are imported but are no JavaScript (wasm, text, data by rule) become modules of their own, named by
 * content: `<sha1>-<file name>`, as wrangler names them. The import stays and says that name.
 */
export interface ModuleCollector {
  readonly plugin: Plugin
  /** Filled while esbuild runs. */
  readonly moduleByName: ReadonlyMap<string, Module>
  readonly files: ReadonlySet<string>
}

const SKIP = Symbol('module-collector')

export function createModuleCollector(options: {
  readonly projectDirectory: string
  readonly rules: RuleSet
  readonly preserveFileNames: boolean
  readonly portablePath: (path: string) => string
  /** Absolute path → module name, of files that are in the bundle whether imported or not. */
  readonly additionalNameByFile: ReadonlyMap<string, string>
}): ModuleCollector {
  const moduleByName = new Map<string, Module>()
  const files = new Set<string>()
  const { projectDirectory, rules, additionalNameByFile } = options

  const collect = async (build: PluginBuild, args: OnResolveArgs): Promise<OnResolveResult | undefined> => {
    if (args.pluginData === SKIP || args.kind === 'entry-point') return undefined
    const query = args.path.endsWith('?module') ? '?module' : ''
    const specifier = args.path.slice(0, args.path.length - query.length)
    const { kind, importer, resolveDir } = args
    const resolved = await build.resolve(specifier, { kind, importer, resolveDir, pluginData: SKIP })
    // Not there, or a runtime module: esbuild's own words are the best ones.
    if (resolved.errors.length > 0 || resolved.external || resolved.namespace !== 'file') return undefined

    const additionalName = additionalNameByFile.get(resolved.path)
    if (additionalName !== undefined) return { path: `./${additionalName}`, external: true }

    const path = relative(projectDirectory, resolved.path)
    const match = matchRule(rules, path + query) ?? matchRule(rules, args.path.replace(/^(?:\.\.?\/)+/, ''))
    if (match === undefined) return undefined
    if (match.type === 'ended') return { errors: [{ text: describeEndedRule(args.path, match.rule) }] }
    // What esbuild can bundle, it bundles.
    if (match.kind === 'esm' || match.kind === 'cjs') return undefined

    const { size } = await stat(resolved.path)
    if (size > BUNDLE_LIMITS.modulesBytesMax) {
      const text = `${path} has ${size} bytes, more than the ${BUNDLE_LIMITS.modulesBytesMax} of a whole bundle`
      return { errors: [{ text: `${text}: fetch it at run time instead` }] }
    }
    const body = await readFile(resolved.path)
    const hash = createHash('sha1').update(body).digest('hex')
    const name = options.preserveFileNames
      ? options.portablePath(resolved.path)
      : `${hash}-${basename(resolved.path)}`
    moduleByName.set(name, { name, kind: match.kind, body })
    files.add(resolved.path)
    return { path: `./${name}`, external: true }
  }

  const plugin: Plugin = {
    name: 'module-collector',
    setup(build) {
      build.onResolve({ filter: specifierFilter(rules) }, (args) => collect(build, args))
      // Additional modules can be imported without their extension; only then is every import worth a look.
      if (additionalNameByFile.size > 0)
        build.onResolve({ filter: /^\.\.?\// }, (args) => collect(build, args))
    },
  }
  return { plugin, moduleByName, files }
}
