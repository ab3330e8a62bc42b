import { originalPositionFor, TraceMap } from '@jridgewell/trace-mapping'

/** What the newer of workerd's module registries puts before a module's name. */
const BUNDLE_URL = 'file:///bundle/'
/** A position in a stack line: behind `(` or `at `, a module, its line and column, both from 1. */
const POSITION = /(\(|\bat (?:async )?)(file:\/\/\/bundle\/)?([^\s()][^()\n]*?):(\d+):(\d+)/g

/**
 * Rewrites a stack's positions to those of the sources, where module `x.js` has a source map `x.js.map`; others stay,
 * named as in the bundle. A map is parsed when the first stack needs it; one that cannot be read maps nothing.
 */
export function createStackMapper(sourceMaps: ReadonlyMap<string, Uint8Array>): (stack: string) => string {
  const traceByModule = new Map<string, TraceMap | undefined>()
  const traceOf = (moduleName: string): TraceMap | undefined => {
    if (traceByModule.has(moduleName)) return traceByModule.get(moduleName)
    const trace = parse(sourceMaps.get(`${moduleName}.map`))
    traceByModule.set(moduleName, trace)
    return trace
  }
  return (stack) =>
    stack.replace(
      POSITION,
      (_, before: string, url: string | undefined, name: string, line: string, column: string) => {
        const moduleName = url === BUNDLE_URL ? decodeName(name) : name
        const trace = traceOf(moduleName)
        // Source maps count columns from 0.
        const source =
          trace && originalPositionFor(trace, { line: Number(line), column: Math.max(0, Number(column) - 1) })
        if (!source || source.source === null) return `${before}${moduleName}:${line}:${column}`
        return `${before}${source.source}:${source.line}:${source.column + 1}`
      },
    )
}

function parse(body: Uint8Array | undefined): TraceMap | undefined {
  if (body === undefined) return undefined
  try {
    return new TraceMap(Buffer.from(body).toString('utf8'))
  } catch {
    return undefined
  }
}

/** URLs carry names percent-encoded. */
function decodeName(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}
