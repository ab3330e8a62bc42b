/** The modules of a version as one form, for releases of wrangler that change a secret by uploading everything again. */
import { randomUUID } from 'node:crypto'
import type { ModuleKind, ModuleRef } from '../../../sdk/model/bundle.ts'
import { isWorkerVersion } from '../../../sdk/model/function.ts'
import { CloudflareError } from '../api-error.ts'
import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import { findScript } from '../script-record.ts'
import { newestVersionId } from '../versions/newest-version.ts'
import { findVersion } from '../versions/read.ts'

const TYPE_BY_KIND: Readonly<Record<ModuleKind, string>> = {
  esm: 'application/javascript+module',
  cjs: 'application/javascript',
  wasm: 'application/wasm',
  text: 'text/plain',
  data: 'application/octet-stream',
  json: 'application/json',
  sourcemap: 'application/source-map',
}

export const contentEndpoints: Endpoints = {
  'GET /accounts/:account/workers/scripts/:script/content/v2': async (call) => {
    const record = findScript(call.ports.registry.head, param(call, 'script'))
    const wanted = call.query.get('version') ?? newestVersionId(record) ?? ''
    const version = await findVersion(call, record, wanted)
    if (!isWorkerVersion(version)) {
      throw new CloudflareError('conflict', `"${record.name}" is a container function and has no modules`)
    }
    const { mainModule, modules } = version.content
    const boundary = `isola-${randomUUID()}`
    return new Response(ReadableStream.from(formOf(call, modules, boundary)), {
      headers: { 'content-type': `multipart/form-data; boundary=${boundary}`, 'cf-entrypoint': mainModule },
    })
  },
}

async function* formOf(
  { ports }: ApiCall,
  modules: readonly ModuleRef[],
  boundary: string,
): AsyncGenerator<Uint8Array> {
  for (const { name, kind, sha256 } of modules) {
    const quoted = name.replaceAll('"', '%22')
    yield Buffer.from(
      `--${boundary}\r\ncontent-disposition: form-data; name="${quoted}"; filename="${quoted}"\r\ncontent-type: ${TYPE_BY_KIND[kind]}\r\n\r\n`,
    )
    yield await ports.registry.getBlob(sha256)
    yield Buffer.from('\r\n')
  }
  yield Buffer.from(`--${boundary}--\r\n`)
}
