import { originalPositionFor, TraceMap, type OriginalMapping } from '@jridgewell/trace-mapping'

/** What the newer of workerd's module registries puts before a module's name. */
const BUNDLE_URL = 'file:///bundle/'
/**
 * A position in a stack line: behind `(` or `at `, a module, its line and column, both from 1. No longer than names may
 * be (`moduleNameBytesMax`): a line of nothing but "at at at" would cost the square of its length, seconds of the agent.
 */
const POSITION =
  /(\(|\bat (?:async )?)(file:\/\/\/bundle\/)?([^\s()][^()\n]{0,511}?):(\d{1,9}):(\d{1,9})(?!\d)/g

/**
 * Rewrites a stack's positions to those of the sources, where module `x.js` has a source map `x.js.map`; others stay,
 * named as in the bundle. A map is parsed when the first stack needs it; one that cannot be read maps nothing.
 */
export function createStackMapper(sourceMaps: ReadonlyMap<string, Uint8Array>): (stack: string) => string {
  const traceByModule = new Map<string, TraceMap | undefined>()
  const traceOf = (moduleName: string): TraceMap | undefined => {
    if (traceByModule.has(moduleName)) return traceByModule.get(moduleName)
    const body = sourceMaps.get(`${moduleName}.map`)
    // Not remembered: functions write names of any number.
    if (body === undefined) return undefined
    const trace = parse(body)
    traceByModule.set(moduleName, trace)
    return trace
  }
  return (stack) =>
    stack.replace(
      POSITION,
      (_, before: string, url: string | undefined, name: string, line: string, column: string) => {
        const moduleName = url === BUNDLE_URL ? decodeName(name) : name
        const trace = traceOf(moduleName)
        const source = trace && sourceOf(trace, Number(line), Number(column))
        if (source === undefined) return `${before}${moduleName}:${line}:${column}`
        return `${before}${source.source}:${source.line}:${source.column + 1}`
      },
    )
}

/** `undefined` where there is no such position: a function may have made it up. */
function sourceOf(trace: TraceMap, line: number, column: number): OriginalMapping | undefined {
  if (line < 1) return undefined
  try {
    // Source maps count columns from 0.
    const found = originalPositionFor(trace, { line, column: Math.max(0, column - 1) })
    return found.source === null ? undefined : found
  } catch {
    // Its mappings are decoded only now, and are whatever was uploaded.
    return undefined
  }
}

function parse(body: Uint8Array): TraceMap | undefined {
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
