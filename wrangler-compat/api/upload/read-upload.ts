import { assetsOfUpload } from '../assets/assets-of-upload.ts'
import type { ApiCall } from '../endpoint.ts'
import { parseMetadata } from './metadata.ts'
import { readUploadForm } from './upload-form.ts'
import type { Upload } from './version-request.ts'

/** The body of an upload, with what its tokens stand for. Throws `malformed`, `tooLarge`, `invalidScript`. */
export async function readUpload(call: ApiCall, functionName: string): Promise<Upload> {
  const { registry } = call.ports
  const { json, files } = await readUploadForm(call.request, {
    jsonPart: 'metadata',
    store: (sha256, body) => registry.putBlob(sha256, body),
  })
  const metadata = parseMetadata(json)
  if (metadata.assets === undefined || metadata.assets === null) return { metadata, files }
  const { jwt, config } = metadata.assets
  const assets = await assetsOfUpload(call, { functionName, jwt: jwt ?? undefined, config })
  return { metadata, files, assets }
}
