import type { Bundle } from '../sdk/model/bundle.ts'
import type { Diagnostic } from './diagnostic.ts'
import type { ModuleRule } from './module-rules.ts'

/** A source directory and how to make a bundle of it. Field for field what a wrangler configuration can say. */
export interface BuildOptions {
  /** Absolute. Relative paths below are relative to it, and so are the paths in source maps and errors. */
  readonly projectDirectory: string
  /** The file whose default export is the function. */
  readonly main: string
  /** `YYYY-MM-DD`; decides, with the flags, what is a runtime module. */
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
  /** What `process.env.NODE_ENV` is replaced with. @default 'production' */
  readonly mode?: 'production' | 'development'
  /** Take the files as they are. @default false */
  readonly noBundle?: boolean
  /** Add every file under `baseDirectory` that a rule names, imported or not. @default false */
  readonly findAdditionalModules?: boolean
  /** Where modules are found by rule. @default the directory of `main` */
  readonly baseDirectory?: string
  /** Tried in order, before the default rules. @default [] */
  readonly rules?: readonly ModuleRule[]
  /** Identifier → JavaScript expression. */
  readonly define?: Readonly<Record<string, string>>
  /** Import specifier → the specifier to use instead, resolved from the project directory. */
  readonly alias?: Readonly<Record<string, string>>
  /** @default false */
  readonly minify?: boolean
  /** Keep `name` of functions and classes when their identifiers change. @default true */
  readonly keepNames?: boolean
  /** @default the nearest tsconfig.json of each source file */
  readonly tsconfig?: string
  readonly jsxFactory?: string
  readonly jsxFragment?: string
  /** Add `<module>.map` modules. @default true */
  readonly sourceMaps?: boolean
  /** Name imported files by their path instead of by content. @default false */
  readonly preserveFileNames?: boolean
  readonly customBuild?: CustomBuild
}

/** A command that makes `main`, run before everything else. */
export interface CustomBuild {
  /** Run by `sh -c`. */
  readonly command: string
  /** @default the project directory */
  readonly cwd?: string
  /** Its sources, for a watcher; the bundler does not read them. */
  readonly watchDirectories: readonly string[]
  /** @default BUILD_LIMITS.commandTimeoutMs */
  readonly timeoutMs?: number
}

export interface BundleResult {
  readonly bundle: Bundle
  readonly warnings: readonly Diagnostic[]
  /** Absolute paths of every file that was read, sorted. */
  readonly watchedFiles: readonly string[]
}
