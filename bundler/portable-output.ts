/** The parts of a source map that can tell where it was made. */
interface RawSourceMap {
  sourceRoot?: string
  sources?: (string | null)[]
  file?: string
}

/**
 * The map with portable source paths, and nothing else changed. `directory` is what its relative sources are relative
 * to, by way of `resolveSource`. What is no source map gives `undefined`.
 */
export function portableSourceMap(
  text: string,
  options: {
    readonly resolveSource: (source: string) => string
    readonly portablePath: (path: string) => string
  },
): string | undefined {
  let map: RawSourceMap
  try {
    map = JSON.parse(text) as RawSourceMap
  } catch {
    return undefined
  }
  if (typeof map !== 'object' || map === null || !Array.isArray(map.sources)) return undefined
  const root =
    typeof map.sourceRoot === 'string' && map.sourceRoot !== '' ? map.sourceRoot.replace(/\/?$/, '/') : ''
  delete map.sourceRoot
  delete map.file
  map.sources = map.sources.map((source) =>
    typeof source === 'string' ? options.portablePath(options.resolveSource(root + source)) : null,
  )
  return JSON.stringify(map)
}

/**
 * esbuild writes the path of each input over its code, and as the key of each CommonJS module. Paths of files outside
 * the project are replaced there; the lines keep their number, so the source map holds.
 */
export function portableCode(
  code: string,
  options: { readonly inputs: readonly string[]; readonly portablePath: (path: string) => string },
): string {
  const outside = new Set(options.inputs.filter((input) => input.startsWith('../')))
  if (outside.size === 0) return code
  return code.replace(
    /^(\s*)(?:\/\/ (\.\.\/.*)|"(\.\.\/[^"\n]*)"(\(.*))$/gm,
    (line, indent, comment, key, rest) => {
      if (comment !== undefined)
        return outside.has(comment) ? `${indent}// ${options.portablePath(comment)}` : line
      return outside.has(key) ? `${indent}"${options.portablePath(key)}"${rest}` : line
    },
  )
}
