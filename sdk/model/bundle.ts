/**
 * A `Bundle` is what the bundler makes of a source directory: named modules and nothing else, so that equal
 * sources give equal bytes. Its digest is over names, kinds and contents; no path or time of the build is in it.
 */

/** `sourcemap` modules are never loaded by an instance; they map stacks in logs. */
export const MODULE_KINDS = ['esm', 'cjs', 'wasm', 'text', 'data', 'json', 'sourcemap'] as const
export type ModuleKind = (typeof MODULE_KINDS)[number]

export interface Module {
  /** Path inside the bundle as `import` resolves it, `/`-separated, never absolute, no `..`; e.g. `index.js`. */
  readonly name: string
  readonly kind: ModuleKind
  readonly body: Uint8Array
}

export interface Bundle {
  /** Name of the module whose default export is the function; of kind `esm` but for a script. */
  readonly mainModule: string
  /** Set where the main module has no default export but registers listeners. @default 'module' */
  readonly format?: 'service-worker'
  /** Sorted by name, names unique. */
  readonly modules: readonly Module[]
  /** Lower-case hex SHA-256 over the sorted manifest of names, kinds and content digests. */
  readonly digest: string
}

/** A module by reference: its bytes are the blob of that digest. */
export interface ModuleRef {
  readonly name: string
  readonly kind: ModuleKind
  /** Lower-case hex SHA-256 of the bytes. */
  readonly sha256: string
  readonly sizeBytes: number
}
