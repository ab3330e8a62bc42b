import { readFileSync } from 'node:fs'
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Paths as they may stand in a bundle. A path inside the project is relative to it. A file outside (a linked package,
 * a hoisted node_modules) has a relative path that changes when the project moves, and a digest must not: it is named
 * by its package instead.
 */
export function createPortablePaths(projectDirectory: string): (path: string) => string {
  const cache = new Map<string, string>()
  return (path) => {
    const known = cache.get(path)
    if (known !== undefined) return known
    const portable = portablePath(path, projectDirectory)
    cache.set(path, portable)
    return portable
  }
}

function portablePath(path: string, projectDirectory: string): string {
  const file = path.startsWith('file://') ? pathOfUrl(path) : path
  // `node-module:fs`, `webpack://x/y` and the like name no file here.
  if (!isAbsolute(file) && /^[a-z][a-z0-9+.-]*:/i.test(file)) return file
  const absolute = resolve(projectDirectory, file)
  const inside = relative(projectDirectory, absolute)
  if (!inside.startsWith(`..${sep}`) && inside !== '..' && !isAbsolute(inside)) return slashes(inside)
  const modules = absolute.indexOf(`${sep}node_modules${sep}`)
  if (modules !== -1) return slashes(absolute.slice(modules + 1))
  return slashes(pathInPackage(absolute))
}

function pathInPackage(absolute: string): string {
  for (let directory = dirname(absolute); ; directory = dirname(directory)) {
    try {
      const { name } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as { name?: unknown }
      if (typeof name === 'string' && name !== '') return join(name, relative(directory, absolute))
    } catch {
      // No package here: look above.
    }
    if (directory === dirname(directory)) return join('outside', basename(absolute))
  }
}

function pathOfUrl(url: string): string {
  try {
    return fileURLToPath(url)
  } catch {
    return url
  }
}

function slashes(path: string): string {
  return sep === '/' ? path : path.replaceAll(sep, '/')
}
