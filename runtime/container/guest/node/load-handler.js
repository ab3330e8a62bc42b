/**
 * Finds `path/file.export.name` as AWS does, and with its names for what can be wrong. Everything is imported, CommonJS
 * too: such a module's `module.exports` is what Node hands out under that name.
 */
import { statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { runtimeError } from './describe-error.js'
import { isStreaming } from './response-stream.js'

const EXTENSIONS = ['', '.js', '.mjs', '.cjs']

export async function loadHandler({ taskRoot, handler }) {
  const { directory, file, names } = parseHandler(handler)
  const module = await importModule(join(taskRoot, directory), file, taskRoot)
  const found = exportOf(module, names)
  if (found === undefined) {
    throw runtimeError('Runtime.HandlerNotFound', `${handler} is undefined or not exported`)
  }
  if (typeof found !== 'function') {
    throw runtimeError('Runtime.HandlerNotFound', `${handler} is not a function`)
  }
  if (found.length >= 3 && !isStreaming(found)) {
    throw runtimeError(
      'Runtime.CallbackHandlerDeprecated',
      `${handler} takes a callback, which handlers have not had since Node.js 24: make it an async function and return the result`,
    )
  }
  return found
}

/** Both loaders do a good deal at their first use, which a blank has time for. */
export async function warmLoader() {
  await import('./warm-up/module.js')
  await import('./warm-up/script.cjs')
}

function parseHandler(handler) {
  if (handler.includes('..')) {
    throw runtimeError(
      'Runtime.MalformedHandlerName',
      `'${handler}' is not a valid handler name: it must not contain ".."`,
    )
  }
  const [, file, names] = /^([^.]+)\.(.+)$/.exec(basename(handler)) ?? []
  if (file === undefined) {
    throw runtimeError('Runtime.MalformedHandlerName', `Bad handler '${handler}': write it as file.export`)
  }
  return { directory: dirname(handler), file, names: names.split('.') }
}

async function importModule(directory, file, taskRoot) {
  try {
    const path = join(directory, file)
    const found = EXTENSIONS.map((extension) => path + extension).find(isFile)
    const loaded = await import(pathToFileURL(found ?? resolvePackage(file, [taskRoot, directory])).href)
    return 'module.exports' in loaded ? loaded['module.exports'] : loaded
  } catch (error) {
    if (error instanceof SyntaxError) throw runtimeError('Runtime.UserCodeSyntaxError', String(error), error)
    if (error?.code === 'MODULE_NOT_FOUND' || error?.code === 'ERR_MODULE_NOT_FOUND') {
      throw runtimeError('Runtime.ImportModuleError', `${error.name}: ${error.message}`, error)
    }
    throw error
  }
}

function isFile(path) {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true
}

/** A directory with an index, or a package in `node_modules`. */
function resolvePackage(name, paths) {
  const require = createRequire(join(paths[0], 'package.json'))
  try {
    return require.resolve(`./${name}`, { paths: paths.toReversed() })
  } catch {
    return require.resolve(name, { paths })
  }
}

function exportOf(module, names) {
  const find = (from) => names.reduce((holder, name) => (isObject(holder) ? holder[name] : undefined), from)
  return find(module) ?? (isObject(module) ? find(module.default) : undefined) ?? undefined
}

function isObject(value) {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}
