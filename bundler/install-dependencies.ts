/**
 * Packages that a handler needs and its directory has not. They are installed in a temporary copy, so that a deploy leaves
 * the directory as it is. What is vendored is taken as it is: a `node_modules`, whatever is in it; for Python, packages
 * beside the handler as `pip install -t .` puts them there, known by their `<name>-<version>.dist-info`.
 */
import { constants, rmSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { IsolaError } from '../sdk/model/errors.ts'
import type { ContainerRuntime } from '../sdk/model/function.ts'
import { runTool, type ToolRun } from './run-tool.ts'
import type { SourceFile } from './source-files.ts'

interface Installation {
  readonly command: string
  readonly args: readonly string[]
  readonly purpose: string
  readonly wayOut: string
}

/** What has to be run, or `undefined` where all is there. Throws `build_failed` for a manifest that cannot be read. */
export async function findInstallation(
  runtime: ContainerRuntime,
  files: readonly SourceFile[],
): Promise<Installation | undefined> {
  const fileByName = new Map(files.map((file) => [file.name, file]))
  return runtime === 'nodejs24' ? findNpmInstallation(fileByName) : findPipInstallation(fileByName)
}

/**
 * Runs it in a copy of the files, and calls back with the directory that then has all of them. It is gone when the callback
 * is done.
 */
export async function withInstalled<Result>(
  options: {
    readonly installation: Installation
    readonly directory: string
    readonly files: readonly SourceFile[]
    readonly onProgress?: ToolRun['onProgress']
  },
  use: (directory: string) => Promise<Result>,
): Promise<Result> {
  const { installation, files, onProgress } = options
  const copy = await mkdtemp(join(tmpdir(), 'isola-install-'))
  const remove = (): void => rmSync(copy, { recursive: true, force: true })
  process.once('exit', remove)
  try {
    for (const { name, path } of files) await copyInto(copy, name, path)
    // Where packages come from; it may hold a token, so it is for the installation and never in the archive.
    await copyInto(copy, '.npmrc', join(options.directory, '.npmrc')).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error
      },
    )
    await runTool({ ...installation, directory: copy, ...(onProgress && { onProgress }) })
    await rm(join(copy, '.npmrc'), { force: true })
    return await use(copy)
  } finally {
    process.removeListener('exit', remove)
    await rm(copy, { recursive: true, force: true })
  }
}

async function copyInto(directory: string, name: string, path: string): Promise<void> {
  const target = join(directory, name)
  await mkdir(dirname(target), { recursive: true })
  await copyFile(path, target, constants.COPYFILE_FICLONE)
}

async function findNpmInstallation(
  fileByName: ReadonlyMap<string, SourceFile>,
): Promise<Installation | undefined> {
  const manifest = fileByName.get('package.json')
  if (manifest === undefined || [...fileByName.keys()].some((name) => name.startsWith('node_modules/'))) {
    return undefined
  }
  const dependencies = await readDependencies(manifest.path)
  if (dependencies.length === 0) return undefined
  const isLocked = ['package-lock.json', 'npm-shrinkwrap.json'].some((name) => fileByName.has(name))
  const flags = ['--omit=dev', '--no-audit', '--no-fund', '--no-update-notifier']
  return {
    command: 'npm',
    args: isLocked ? ['ci', ...flags] : ['install', '--no-package-lock', ...flags],
    purpose: `installing the ${dependencies.length} packages of package.json`.replace(
      /\b1 packages/,
      '1 package',
    ),
    wayOut:
      'Correct package.json, or install them yourself (npm install --omit=dev): node_modules is then sent as it is',
  }
}

async function readDependencies(path: string): Promise<readonly string[]> {
  let manifest: { dependencies?: unknown; optionalDependencies?: unknown } | null
  try {
    manifest = JSON.parse(await readFile(path, 'utf8')) as typeof manifest
  } catch (error) {
    const message = `${path} is not JSON (${(error as Error).message}): correct it`
    throw new IsolaError('build_failed', message, { cause: error })
  }
  return [manifest?.dependencies, manifest?.optionalDependencies].flatMap((names) => Object.keys(names ?? {}))
}

const PIP_ARGUMENTS = [
  '-m',
  'pip',
  'install',
  '--requirement=requirements.txt',
  '--target=.',
  '--no-compile',
  '--no-input',
  '--disable-pip-version-check',
  '--no-warn-script-location',
] as const

async function findPipInstallation(
  fileByName: ReadonlyMap<string, SourceFile>,
): Promise<Installation | undefined> {
  const requirements = fileByName.get('requirements.txt')
  if (requirements === undefined) return undefined
  const lines = (await readFile(requirements.path, 'utf8'))
    .split('\n')
    .map((line) => line.replace(/(?:^|\s)#.*$/, '').trim())
    .filter((line) => line !== '')
  const vendored = new Set(
    [...fileByName.keys()].flatMap((name) => {
      const project = /^([^/]+)-[^/-]+\.dist-info\//.exec(name)?.[1]
      return project === undefined ? [] : [normalProject(project)]
    }),
  )
  if (lines.every((line) => vendored.has(projectOf(line)))) return undefined
  return {
    command: 'python3',
    args: PIP_ARGUMENTS,
    purpose: 'installing the packages of requirements.txt',
    wayOut:
      'Correct requirements.txt, or put the packages beside the handler yourself (pip install -r requirements.txt -t .): they are then sent as they are',
  }
}

/** The name that a requirement begins with, `requests[socks]>=2 ; python_version > "3"`; `''` for options, paths, URLs. */
function projectOf(line: string): string {
  const name = /^([A-Za-z0-9][\w.-]*)\s*(?:$|[[=<>!~;@ ])/.exec(line)?.[1]
  return name === undefined ? '' : normalProject(name)
}

/** As Python's packaging compares names. */
function normalProject(name: string): string {
  return name.toLowerCase().replace(/[-_.]+/g, '-')
}

/** What installers leave that differs from one to the next. */
export const INSTALLER_TRACES = [
  '**/__pycache__',
  '**/*.pyc',
  'node_modules/.cache',
  'node_modules/.package-lock.json',
] as const
