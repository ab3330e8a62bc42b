import { createRequire } from 'node:module'
import { existsSync } from 'node:fs'
import { IsolaError } from '../../sdk/model/errors.ts'

const PACKAGE_BY_ARCHITECTURE: Readonly<Record<string, string>> = {
  x64: '@cloudflare/workerd-linux-64',
  arm64: '@cloudflare/workerd-linux-arm64',
}

/** Path of the stock workerd of this machine's architecture. Throws `unsupported_machine`. */
export function workerdBinaryPath(architecture: string = process.arch): string {
  const packageName = PACKAGE_BY_ARCHITECTURE[architecture]
  if (process.platform !== 'linux' || packageName === undefined) {
    throw new IsolaError(
      'unsupported_machine',
      `there is no workerd for ${process.platform} on ${architecture}: run isola on Linux, x64 or arm64`,
    )
  }
  const binary = `${packageName}/bin/workerd`
  try {
    const path = createRequire(import.meta.url).resolve(binary)
    if (existsSync(path)) return path
  } catch (cause) {
    throw new IsolaError(
      'unsupported_machine',
      `the package ${packageName} is not installed: run "npm ci" without --omit=optional on this machine`,
      { cause },
    )
  }
  throw new IsolaError('unsupported_machine', `${binary} is missing from node_modules: run "npm ci" again`)
}
