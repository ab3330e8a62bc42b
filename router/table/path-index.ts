/**
 * The paths of one host: exact ones and prefixes, the longest that fits wins, and of equal length the exact one.
 *
 * Kept as one array in code-unit order. Every pattern that is a prefix of a path is also a prefix of the path's
 * predecessor in that order, so a binary search and a walk over precomputed parents find the longest one: no
 * allocation, and 10,000 routes on one host cost a dozen comparisons. A query behind the path changes nothing, as no
 * pattern contains `?` or `#`: the target is compared as it came.
 */
export interface PathIndex<Value> {
  /** `target` begins with a path in normal form that ends at `pathEnd`. */
  find(target: string, pathEnd: number): Value | undefined
}

interface PathNode<Value> {
  readonly path: string
  exact: Value | undefined
  prefix: Value | undefined
  /** Index of the longest other path that this one begins with, or -1. */
  parent: number
}

export class PathIndexBuilder<Value> {
  readonly #nodeByPath = new Map<string, PathNode<Value>>()

  /** The first value of a path stays: two routes never share a spelling, and of two that mean the same one must win. */
  add(path: string, prefixPath: boolean, value: Value): void {
    let node = this.#nodeByPath.get(path)
    if (node === undefined) {
      node = { path, exact: undefined, prefix: undefined, parent: -1 }
      this.#nodeByPath.set(path, node)
    }
    if (prefixPath) node.prefix ??= value
    else node.exact ??= value
  }

  build(): PathIndex<Value> {
    const nodes = [...this.#nodeByPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
    for (let index = 1; index < nodes.length; index++) {
      const { path } = nodes[index]!
      let parent = index - 1
      while (parent !== -1 && !path.startsWith(nodes[parent]!.path)) parent = nodes[parent]!.parent
      nodes[index]!.parent = parent
    }
    return { find: (target, pathEnd) => find(nodes, target, pathEnd) }
  }
}

function find<Value>(nodes: readonly PathNode<Value>[], target: string, pathEnd: number): Value | undefined {
  let low = 0
  let high = nodes.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (nodes[middle]!.path <= target) low = middle + 1
    else high = middle
  }
  if (low === 0) return undefined
  let node = nodes[low - 1]!
  const common = commonLength(node.path, target, pathEnd)
  for (;;) {
    const { length } = node.path
    if (length <= common) {
      if (length === pathEnd && node.exact !== undefined) return node.exact
      if (node.prefix !== undefined) return node.prefix
    }
    if (node.parent === -1) return undefined
    node = nodes[node.parent]!
  }
}

function commonLength(path: string, target: string, pathEnd: number): number {
  const end = Math.min(path.length, pathEnd)
  let index = 0
  while (index < end && path.charCodeAt(index) === target.charCodeAt(index)) index++
  return index
}
