import type { Dirent } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'
import { IsolaError } from '../sdk/model/errors.ts'
import type { Module } from '../sdk/model/bundle.ts'
import { BUILD_LIMITS, BUNDLE_LIMITS } from '../sdk/model/limits.ts'
import { bundleTooLarge } from './bundle-bounds.ts'
import { buildFailed } from './diagnostic.ts'
import { describeEndedRule, matchRule, type RuleSet } from './module-rules.ts'

export interface FoundModule extends Module {
  readonly file: string
}

/**
 * Every file under `directory` that a rule names, as a module named by its path from there. Directories that begin
 * with a dot and `node_modules` are not entered, nor is a directory behind a symbolic link: such trees are rarely
 * meant, and can be endless.
 */
export async function findModules(options: {
  readonly directory: string
  readonly rules: RuleSet
  /** Absolute paths to leave out. */
  readonly except: ReadonlySet<string>
  readonly filesScannedMax?: number
}): Promise<FoundModule[]> {
  const { directory, rules, except } = options
  const filesScannedMax = options.filesScannedMax ?? BUILD_LIMITS.filesScannedMax
  const wanted: { name: string; kind: Module['kind']; file: string; sizeBytes: number }[] = []
  let scannedCount = 0
  for await (const file of walk(directory)) {
    if (++scannedCount > filesScannedMax) {
      throw new IsolaError(
        'bundle_too_large',
        `${directory} holds more than ${filesScannedMax} files: set "base_dir" to the directory of the modules alone`,
      )
    }
    if (except.has(file)) continue
    const name = relative(directory, file).split(sep).join('/')
    const match = matchRule(rules, name)
    if (match === undefined) continue
    if (match.type === 'ended') throw buildFailed([{ text: describeEndedRule(name, match.rule) }])
    wanted.push({ name, kind: match.kind, file, sizeBytes: (await stat(file)).size })
  }
  // Before any is read: a wrong base_dir must not fill the memory.
  const totalBytes = wanted.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  if (wanted.length > BUNDLE_LIMITS.modulesCountMax || totalBytes > BUNDLE_LIMITS.modulesBytesMax) {
    throw bundleTooLarge(wanted)
  }
  const modules: FoundModule[] = []
  for (const { name, kind, file } of wanted) modules.push({ name, kind, file, body: await readFile(file) })
  return modules
}

async function* walk(directory: string): AsyncGenerator<string> {
  const entries = await readDirectory(directory)
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) {
      if (!entry.name.startsWith('.') && entry.name !== 'node_modules') yield* walk(path)
    } else if (entry.isFile() || (entry.isSymbolicLink() && (await isFile(path)))) {
      yield path
    }
  }
}

async function readDirectory(directory: string): Promise<Dirent[]> {
  try {
    return await readdir(directory, { withFileTypes: true })
  } catch (error) {
    const message = `the directory ${directory} cannot be read for modules: correct "base_dir", or its permissions`
    throw new IsolaError('build_failed', message, { cause: error })
  }
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile()
  } catch {
    return false
  }
}
