import { execFile } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { IsolaError } from '../../sdk/model/errors.ts'
import { addClient, addLibraries, addSystem, createBaseFiles } from './base-files.ts'
import type { ImageFiles } from './image-files.ts'

const run = promisify(execFile)

/** The system's Python with its standard library. Throws `unsupported_machine` where there is none. */
export async function pythonFiles(): Promise<ImageFiles> {
  const python = await findPython()
  const files = createBaseFiles()
  addSystem(files)
  addClient(files)
  files.addFile(python.executable)
  files.addTree(python.library, { skip: isNotNeeded })
  if (!python.extensions.startsWith(`${python.library}/`)) {
    files.addTree(python.extensions, { skip: isNotNeeded })
  }
  for (const path of ['/usr/bin/python3', '/usr/bin/python']) {
    if (path !== python.executable) files.addLink(path, python.executable)
  }
  if (existsSync(ZONES)) files.addTree(ZONES, { skip: (path) => /\/(?:posix|right)$/.test(path) })
  await addLibraries(
    files,
    files.hostPaths.filter((path) => isLoaded(path, python.executable)),
  )
  return files
}

const ZONES = '/usr/share/zoneinfo'

interface Python {
  readonly executable: string
  readonly library: string
  readonly extensions: string
}

const QUESTION = `
import json, sys, sysconfig
print(json.dumps({
  "version": list(sys.version_info[:2]),
  "executable": sys.executable,
  "library": sysconfig.get_path("stdlib"),
  "extensions": sysconfig.get_config_var("DESTSHARED"),
}))`

async function findPython(): Promise<Python> {
  // The distribution's first: what is found by the path may be somebody's project.
  for (const program of ['/usr/bin/python3', 'python3']) {
    const found = await ask(program)
    if (found !== undefined) return found
  }
  throw new IsolaError(
    'unsupported_machine',
    'this machine has no Python 3.9 or later, of which runtime "python3" is made: install it ("apt-get install python3"), or name a base image',
  )
}

async function ask(program: string): Promise<Python | undefined> {
  try {
    // Without the user's settings and packages.
    const { stdout } = await run(program, ['-I', '-S', '-c', QUESTION], { timeout: 30_000 })
    const answer = JSON.parse(stdout) as Python & { readonly version: readonly [number, number] }
    const [major, minor] = answer.version
    if (major !== 3 || minor < 9) return undefined
    const { library, extensions } = answer
    // A minimal Python lacks what every handler imports; its folder has no such file.
    if (!existsSync(join(library, 'json/decoder.py')) && !existsSync(join(library, 'json/__init__.py'))) {
      return undefined
    }
    return { executable: realpathSync(answer.executable), library, extensions: extensions || library }
  } catch {
    return undefined
  }
}

const NOT_NEEDED: readonly string[] = [
  'dist-packages',
  'ensurepip',
  'idlelib',
  'lib2to3',
  'pydoc_data',
  'site-packages',
  'test',
  'tests',
  'tkinter',
  'turtledemo',
]

function isNotNeeded(path: string): boolean {
  const name = basename(path)
  return (
    NOT_NEEDED.includes(name) ||
    name.startsWith('config-') ||
    // Compiled sources are kept: the root is read-only, and to compile them at each start takes longer than the start.
    /\.opt-[12]\.pyc$/.test(name) ||
    /^(?:_test|_ctypes_test|_xxtest|xx).*\.so$/.test(name)
  )
}

function isLoaded(path: string, executable: string): boolean {
  return (
    path === executable || path.endsWith('.so') || path.startsWith('/bin/') || path.startsWith('/usr/bin/')
  )
}
