import type { BuildOptions } from '../../bundler/build-options.ts'
import type { ConfigPath } from '../../sdk/config/document.ts'
import type { ChosenFields } from './environment.ts'
import type { ConfigFields } from './schema.ts'

/** What only a bundler can do; wrangler ignores these too without one. */
const BUNDLER_FIELDS = [
  'minify',
  'define',
  'alias',
  'tsconfig',
  'jsx_factory',
  'jsx_fragment',
  'keep_names',
] as const

/** The fields that say how the code is made. */
export function readBuildOptions(
  { fields, pathOf }: ChosenFields,
  given: { readonly projectDirectory: string; readonly main: string; readonly compatibilityDate: string },
): {
  readonly options: BuildOptions
  readonly warnings: readonly { readonly path: ConfigPath; readonly message: string }[]
} {
  const warnings: { path: ConfigPath; message: string }[] = []
  if (fields.no_bundle) {
    for (const field of BUNDLER_FIELDS) {
      if (fields[field] === undefined) continue
      warnings.push({ path: pathOf(field), message: `"${field}" has no effect with "no_bundle"` })
    }
  }
  const command = fields.build?.command
  if (fields.build !== undefined && command === undefined && Object.keys(fields.build).length > 0) {
    warnings.push({ path: pathOf('build'), message: '"build" has no effect without "build.command"' })
  }
  return { options: { ...given, ...optionsOf(fields), ...customBuildOf(fields) }, warnings }
}

/** Absent fields stay absent: the defaults are the bundler's. */
function optionsOf(
  fields: ConfigFields,
): Omit<BuildOptions, 'projectDirectory' | 'main' | 'compatibilityDate'> {
  return {
    compatibilityFlags: fields.compatibility_flags ?? [],
    ...(fields.no_bundle !== undefined && { noBundle: fields.no_bundle }),
    ...(fields.find_additional_modules !== undefined && {
      findAdditionalModules: fields.find_additional_modules,
    }),
    ...(fields.base_dir !== undefined && { baseDirectory: fields.base_dir }),
    ...(fields.rules !== undefined && {
      rules: fields.rules.map(({ type, globs, fallthrough }) => ({
        type,
        globs,
        ...(fallthrough !== undefined && { fallthrough }),
      })),
    }),
    ...(fields.define !== undefined && { define: fields.define }),
    ...(fields.alias !== undefined && { alias: fields.alias }),
    ...(fields.minify !== undefined && { minify: fields.minify }),
    ...(fields.keep_names !== undefined && { keepNames: fields.keep_names }),
    ...(fields.tsconfig !== undefined && { tsconfig: fields.tsconfig }),
    ...(fields.jsx_factory !== undefined && { jsxFactory: fields.jsx_factory }),
    ...(fields.jsx_fragment !== undefined && { jsxFragment: fields.jsx_fragment }),
    ...(fields.upload_source_maps !== undefined && { sourceMaps: fields.upload_source_maps }),
    ...(fields.preserve_file_names !== undefined && { preserveFileNames: fields.preserve_file_names }),
  }
}

function customBuildOf({ build }: ConfigFields): Pick<BuildOptions, 'customBuild'> {
  if (build?.command === undefined) return {}
  const { command, cwd, watch_dir: watchDirectory = './src' } = build
  const watchDirectories = typeof watchDirectory === 'string' ? [watchDirectory] : watchDirectory
  return { customBuild: { command, watchDirectories, ...(cwd !== undefined && { cwd }) } }
}
