import type { ModuleKind, ModuleRef } from '../../../sdk/model/bundle.ts'
import { CloudflareError } from '../api-error.ts'
import type { UploadedFile } from './upload-form.ts'

const KIND_BY_TYPE: Readonly<Record<string, ModuleKind>> = {
  'application/javascript+module': 'esm',
  'text/javascript+module': 'esm',
  'application/javascript': 'cjs',
  'text/javascript': 'cjs',
  'application/wasm': 'wasm',
  'text/plain': 'text',
  'application/octet-stream': 'data',
  'application/json': 'json',
  'application/source-map': 'sourcemap',
}

/** The uploaded files as modules. Throws `invalidScript` that lists those of no type that can be loaded. */
export function uploadModules(files: readonly UploadedFile[]): readonly ModuleRef[] {
  const refused = files.filter(({ mimeType }) => !Object.hasOwn(KIND_BY_TYPE, mimeType))
  if (refused.length > 0) {
    const list = refused
      .slice(0, 10)
      .map(({ name, mimeType }) => `${JSON.stringify(name.slice(0, 100))} is ${describeType(mimeType)}`)
    throw new CloudflareError(
      'invalidScript',
      `modules of these types cannot be loaded: ${list.join('; ')}. Send JavaScript, WebAssembly, text, JSON or data`,
    )
  }
  return files.map(({ name, mimeType, sha256, sizeBytes }) => ({
    name: moduleName(name),
    kind: KIND_BY_TYPE[mimeType] ?? 'data',
    sha256,
    sizeBytes,
  }))
}

/** Bundles import what stands beside them as `./name`, and wrangler names the parts so, too. */
export function moduleName(partName: string): string {
  return partName.replace(/^(?:\.\/)+/, '')
}

function describeType(mimeType: string): string {
  return mimeType.startsWith('text/x-python')
    ? 'Python, which isola does not run'
    : JSON.stringify(mimeType.slice(0, 100))
}
