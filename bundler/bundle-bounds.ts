import { posix } from 'node:path'
import { IsolaError } from '../sdk/model/errors.ts'
import type { Module } from '../sdk/model/bundle.ts'
import { BUNDLE_LIMITS } from '../sdk/model/limits.ts'

const BIGGEST_SHOWN = 5

/** Throws `bundle_too_large` or `build_failed` for modules that no node would take. */
export function checkBundleBounds(modules: readonly Module[]): void {
  const sizes = modules.map(({ name, body }) => ({ name, sizeBytes: body.length }))
  const totalBytes = sizes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  if (sizes.length > BUNDLE_LIMITS.modulesCountMax || totalBytes > BUNDLE_LIMITS.modulesBytesMax) {
    throw bundleTooLarge(sizes)
  }
  const seen = new Set<string>()
  for (const { name } of modules) {
    const nameBytes = Buffer.byteLength(name)
    if (nameBytes > BUNDLE_LIMITS.moduleNameBytesMax) {
      throw new IsolaError(
        'bundle_too_large',
        `module name "${name.slice(0, 100)}…" has ${nameBytes} bytes, more than ${BUNDLE_LIMITS.moduleNameBytesMax}: ` +
          'use shorter directory and file names',
      )
    }
    if (name === '' || posix.isAbsolute(name) || posix.normalize(name) !== name || name.startsWith('..')) {
      throw new IsolaError(
        'build_failed',
        `module name ${JSON.stringify(name)} is not usable: it must be a plain relative path`,
      )
    }
    if (seen.has(name)) {
      throw new IsolaError(
        'build_failed',
        `two modules are named "${name}": rename one of the files, or leave it out of "rules"`,
      )
    }
    seen.add(name)
  }
}

export function bundleTooLarge(
  modules: readonly { readonly name: string; readonly sizeBytes: number }[],
): IsolaError {
  const totalBytes = modules.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
  const biggest = modules.toSorted((a, b) => b.sizeBytes - a.sizeBytes).slice(0, BIGGEST_SHOWN)
  const list = biggest.map(({ name, sizeBytes }) => `  ${formatMib(sizeBytes)} ${name}`).join('\n')
  const { modulesBytesMax, modulesCountMax } = BUNDLE_LIMITS
  const tooMany = modules.length > modulesCountMax
  const what = tooMany
    ? `the bundle has ${modules.length} modules, more than ${modulesCountMax}`
    : `the bundle has ${totalBytes} bytes (${formatMib(totalBytes)}), more than ${modulesBytesMax} (${formatMib(modulesBytesMax)})`
  const way = tooMany
    ? 'narrow "rules" or "base_dir"'
    : 'leave out what the function does not need, set "minify", or set "upload_source_maps" to false'
  return new IsolaError('bundle_too_large', `${what}: ${way}. The biggest:\n${list}`, {
    details: { totalBytes, modulesCount: modules.length, modulesBytesMax, modulesCountMax, biggest },
  })
}

function formatMib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}
