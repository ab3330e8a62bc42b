import { lstat, readdir, realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import type { Stats } from 'node:fs'
import { IsolaError } from '../sdk/model/errors.ts'
import { CONTAINER_LIMITS } from '../sdk/model/limits.ts'
import { compilePatterns } from './path-patterns.ts'

/** A regular file that goes into an archive. */
export interface SourceFile {
  /** In the archive: relative, `/`-separated. */
  readonly name: string
  /** Absolute. */
  readonly path: string
  readonly sizeBytes: number
  readonly isExecutable: boolean
}

export interface SourceSelection {
  readonly directory: string
  /** @default all but `NEVER_PACKED` */
  readonly include?: readonly string[]
  readonly exclude: readonly string[]
}

/** Of no use where a function runs, or (`.env`, `.npmrc`) secrets of the machine that deploys. */
const NEVER_PACKED = [
  '.git',
  '.hg',
  '.svn',
  '.isola',
  '.venv',
  'venv',
  '.env',
  '.env.*',
  '.npmrc',
  'isola.jsonc',
  'isola.json',
  'isola.*.jsonc',
  'isola.*.json',
  '**/__pycache__',
  '**/*.pyc',
  '**/.DS_Store',
  'node_modules/.cache',
  'node_modules/.package-lock.json',
] as const

/**
 * The files of a directory, sorted by name in code units. A symbolic link is followed inside of the directory, so that
 * the archive has no links; one that leads elsewhere is refused by name (`build_failed`), as is what is no file.
 */
export async function findSourceFiles(selection: SourceSelection): Promise<readonly SourceFile[]> {
  const root = await rootOf(selection.directory)
  const isIncluded = selection.include === undefined ? () => true : compilePatterns(selection.include)
  const isExcluded = compilePatterns([
    ...(selection.include === undefined ? NEVER_PACKED : []),
    ...selection.exclude,
  ])
  const files: SourceFile[] = []

  const visit = async (directory: string, prefix: string, above: readonly string[]): Promise<void> => {
    for (const entry of await namesIn(directory, prefix)) {
      const name = `${prefix}${entry}`
      if (isExcluded(name)) continue
      const path = join(directory, entry)
      const { target, stats } = await follow(path, { name, root })
      if (stats.isDirectory()) {
        if (above.includes(target)) {
          throw refused(name, 'is a link to a directory that it is in: exclude it, or remove it')
        }
        await visit(target, `${name}/`, [...above, target])
      } else if (isIncluded(name)) {
        if (!stats.isFile()) throw refused(name, 'is no file, directory or link: exclude it')
        checkName(name)
        const isExecutable = (stats.mode & 0o111) !== 0
        files.push({ name, path: target, sizeBytes: stats.size, isExecutable })
        if (files.length > CONTAINER_LIMITS.archiveFilesMax) throw tooManyFiles(selection.directory)
      }
    }
  }
  await visit(root, '', [root])
  return files.sort((a, b) => (a.name < b.name ? -1 : 1))
}

async function rootOf(directory: string): Promise<string> {
  try {
    return await realpath(directory)
  } catch (error) {
    throw new IsolaError('build_failed', `the directory ${directory} cannot be read: check the path`, {
      cause: error,
    })
  }
}

async function namesIn(directory: string, prefix: string): Promise<readonly string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    const why = `cannot be read (${(error as NodeJS.ErrnoException).code}): mend it, or exclude it`
    throw refused(prefix === '' ? directory : prefix, why, error)
  }
}

async function follow(
  path: string,
  { name, root }: { readonly name: string; readonly root: string },
): Promise<{ readonly target: string; readonly stats: Stats }> {
  try {
    const stats = await lstat(path)
    if (!stats.isSymbolicLink()) return { target: path, stats }
    const target = await realpath(path)
    if (target !== root && !target.startsWith(root + sep)) {
      throw refused(
        name,
        `is a symbolic link to ${target}, outside of ${root}: put what it means into the directory, or exclude it`,
      )
    }
    return { target, stats: await stat(target) }
  } catch (error) {
    if (error instanceof IsolaError) throw error
    const { code } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'is a symbolic link to nothing' : `cannot be read (${code})`
    throw refused(name, `${why}: mend it, or exclude it`, error)
  }
}

function checkName(name: string): void {
  // oxlint-disable-next-line no-control-regex -- control characters are what it looks for
  if (/[\u0000-\u001f\u007f\\]/.test(name)) {
    throw refused(name, 'has a control character or a backslash in its name: rename it, or exclude it')
  }
}

function refused(name: string, why: string, cause?: unknown): IsolaError {
  return new IsolaError('build_failed', `${JSON.stringify(name)} ${why}`, { cause })
}

function tooManyFiles(directory: string): IsolaError {
  return new IsolaError(
    'bundle_too_large',
    `${directory} has more than the ${CONTAINER_LIMITS.archiveFilesMax} files of an archive: leave some out with "exclude", or use a Dockerfile`,
  )
}
