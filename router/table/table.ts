/**
 * Host and path → function. Compiled once a snapshot and swapped whole; a match is a few map reads and allocates
 * nothing but the slices of the host that wildcard and preview lookups need.
 *
 * The most specific route wins: exact hosts, then wildcard hosts from the longest suffix to the shortest; within each
 * the longest path. A host whose own routes do not fit the path goes on to the next. After all routes come the hosts
 * every function has by name: `<function>.<base-domain>`, and `<version>-<function>.<base-domain>` for its recent
 * versions. A function whose name looks like another's preview host keeps its own host.
 *
 * There is no cache: its keys would be the client's.
 */
import { PREVIEW_ID_LENGTH } from '../../sdk/model/function.ts'
import { parseRoutePattern } from '../../sdk/model/route.ts'
import type { Snapshot, SnapshotFunction } from '../../sdk/model/snapshot.ts'
import { compileFunction, type FunctionEntry } from './function-entry.ts'
import { normalPath, normalPathEnd, normalPatternPath } from './normal-path.ts'
import { PathIndexBuilder, type PathIndex } from './path-index.ts'

/** Made at compile time and handed to every request that matches: compare by identity, never change. */
export interface RouteMatch {
  readonly entry: FunctionEntry
  /** Set on preview hosts: this version answers, whatever its share. */
  readonly pinnedVersionId?: string
}

export interface RouteTable {
  readonly generation: number
  readonly entries: readonly FunctionEntry[]
  /**
   * `host` as `parseHost` gives it; `target` as the client sent it in origin form, query and all.
   * `undefined`: no function answers there.
   */
  match(host: string, target: string): RouteMatch | undefined
  /** By name instead of by route. Its versions are those of its shares, its previews and those that are pinned. */
  named(functionName: string): NamedFunction | undefined
}

export interface NamedFunction {
  readonly match: RouteMatch
  readonly pinnedByVersionId: ReadonlyMap<string, RouteMatch>
}

type HostMap = ReadonlyMap<string, PathIndex<RouteMatch>>

export function compileTable(snapshot: Snapshot): RouteTable {
  const entries: FunctionEntry[] = []
  const exact = new Map<string, PathIndexBuilder<RouteMatch>>()
  const wildcard = new Map<string, PathIndexBuilder<RouteMatch>>()
  const byName = new Map<string, RouteMatch>()
  const previewsByName = new Map<string, readonly RouteMatch[]>()
  const namedFunctions = new Map<string, NamedFunction>()
  for (const record of snapshot.functions) {
    const entry = compileFunction(record)
    const match: RouteMatch = { entry }
    entries.push(entry)
    for (const text of record.patterns) {
      const pattern = parseRoutePattern(text)
      const builders = pattern.wildcardHost ? wildcard : exact
      let builder = builders.get(pattern.host)
      if (builder === undefined) builders.set(pattern.host, (builder = new PathIndexBuilder()))
      const path = normalPatternPath(pattern)
      builder.add(path, pattern.prefixPath, match)
    }
    if (record.baseDomainHost) byName.set(record.name, match)
    if (record.previewVersionIds.length > 0) {
      const pinned = record.previewVersionIds.map((pinnedVersionId) => ({ entry, pinnedVersionId }))
      previewsByName.set(record.name, pinned)
    }
    const pinnedByVersionId = new Map(
      versionIdsOf(record).map((pinnedVersionId) => [pinnedVersionId, { entry, pinnedVersionId }]),
    )
    namedFunctions.set(record.name, { match, pinnedByVersionId })
  }
  return new CompiledTable({
    generation: snapshot.generation,
    entries,
    baseSuffix: `.${snapshot.baseDomain}`,
    exact: build(exact),
    wildcard: build(wildcard),
    byName,
    previewsByName,
    namedFunctions,
  })
}

/** Those that can be asked for, by whatever way. */
export function versionIdsOf({ shares, previewVersionIds, pinnedVersionIds }: SnapshotFunction): string[] {
  const ids = [...shares.map(({ versionId }) => versionId), ...previewVersionIds, ...(pinnedVersionIds ?? [])]
  return [...new Set(ids)]
}

function build(builders: ReadonlyMap<string, PathIndexBuilder<RouteMatch>>): HostMap {
  return new Map([...builders].map(([host, builder]) => [host, builder.build()]))
}

interface CompiledParts {
  readonly generation: number
  readonly entries: readonly FunctionEntry[]
  /** `.` and the base domain. */
  readonly baseSuffix: string
  readonly exact: HostMap
  readonly wildcard: HostMap
  readonly byName: ReadonlyMap<string, RouteMatch>
  /** Newest first: of two versions with the same first digits the newer one answers. */
  readonly previewsByName: ReadonlyMap<string, readonly RouteMatch[]>
  readonly namedFunctions: ReadonlyMap<string, NamedFunction>
}

class CompiledTable implements RouteTable {
  readonly generation: number
  readonly entries: readonly FunctionEntry[]
  readonly #parts: CompiledParts
  /** Longer suffixes of a host need no look: a hostile host has a hundred of them. */
  readonly #wildcardCharsMax: number

  constructor(parts: CompiledParts) {
    this.generation = parts.generation
    this.entries = parts.entries
    this.#parts = parts
    this.#wildcardCharsMax = [...parts.wildcard.keys()].reduce((max, { length }) => Math.max(max, length), 0)
  }

  match(host: string, target: string): RouteMatch | undefined {
    if (target.charCodeAt(0) !== SLASH) return undefined
    const named = host.charCodeAt(host.length - 1) === DOT ? host.slice(0, -1) : host
    const exact = this.#parts.exact.get(named)
    if (exact !== undefined || this.#wildcardCharsMax > 0) {
      const route = this.#matchRoutes(exact, named, target)
      if (route !== undefined) return route
    }
    return this.#matchBaseDomain(named)
  }

  named(functionName: string): NamedFunction | undefined {
    return this.#parts.namedFunctions.get(functionName)
  }

  #matchRoutes(
    exact: PathIndex<RouteMatch> | undefined,
    host: string,
    target: string,
  ): RouteMatch | undefined {
    let path = target
    let pathEnd = normalPathEnd(target)
    if (pathEnd === -1) {
      path = normalPath(target)
      pathEnd = path.length
    }
    const found = exact?.find(path, pathEnd)
    if (found !== undefined) return found
    // From 1: what `*` stands for is never empty.
    for (let dot = host.indexOf('.', 1); dot !== -1; dot = host.indexOf('.', dot + 1)) {
      if (host.length - dot - 1 > this.#wildcardCharsMax) continue
      const route = this.#parts.wildcard.get(host.slice(dot + 1))?.find(path, pathEnd)
      if (route !== undefined) return route
    }
    return undefined
  }

  #matchBaseDomain(host: string): RouteMatch | undefined {
    const { baseSuffix, byName, previewsByName } = this.#parts
    if (!host.endsWith(baseSuffix)) return undefined
    const label = host.slice(0, -baseSuffix.length)
    const match = byName.get(label)
    if (match !== undefined) return match
    if (label.charCodeAt(PREVIEW_ID_LENGTH) !== DASH) return undefined
    const previews = previewsByName.get(label.slice(PREVIEW_ID_LENGTH + 1))
    if (previews === undefined) return undefined
    const digits = label.slice(0, PREVIEW_ID_LENGTH)
    return previews.find(({ pinnedVersionId }) => pinnedVersionId?.startsWith(digits))
  }
}

const DASH = 45
const DOT = 46
const SLASH = 47
