import type { WorkerVersionRequest } from '../../../sdk/model/control.ts'
import type { StaticAssets, WorkerContent } from '../../../sdk/model/function.ts'
import type { ScriptSettings, VersionAnnotations } from '../../../sdk/model/wrangler.ts'
import { readBindings, refusalText } from '../../bindings/read-bindings.ts'
import { CloudflareError } from '../api-error.ts'
import type { WranglerApiPorts } from '../ports.ts'
import type { NewestVersion } from '../versions/newest-version.ts'
import type { UploadMetadata } from './metadata.ts'
import { moduleName, uploadModules } from './upload-modules.ts'
import type { UploadedFile } from './upload-form.ts'

/** Where an upload names none: what Cloudflare takes then. */
const COMPATIBILITY_DATE_DEFAULT = '2021-11-02'

export interface Upload {
  readonly metadata: UploadMetadata
  readonly files: readonly UploadedFile[]
  /** Of the metadata's completion token. */
  readonly assets?: StaticAssets
}

/** What an upload makes of the function, on top of its newest version. Throws `invalidScript`, `invalidInherit`. */
export function versionRequest(
  ports: WranglerApiPorts,
  functionName: string,
  { upload, newest }: { readonly upload: Upload; readonly newest: NewestVersion },
): WorkerVersionRequest {
  const { metadata } = upload
  const modules = uploadModules(upload.files)
  const previous = newest.version?.content
  const assets = upload.assets ?? (metadata.keep_assets === true ? previous?.assets : undefined)
  const code = codeOf(metadata, { hasAssets: assets !== undefined })
  const reading = readBindings(metadata.bindings, {
    previous: previous?.bindings ?? [],
    keep: metadata.keep_bindings ?? [],
    modules: new Map(modules.map(({ name, kind }) => [name, kind])),
    hasAssets: assets !== undefined,
    seal: ({ name, text }) => ports.secrets.seal({ functionName, name, text }),
  })
  if ('refusals' in reading) {
    const { refusals } = reading
    const kind = refusals.every(({ isInherit }) => isInherit === true) ? 'invalidInherit' : 'invalidScript'
    throw new CloudflareError(kind, refusalText(refusals))
  }
  const cpuMs = metadata.limits?.cpu_ms ?? undefined
  const { message = '', tag } = annotationsOf(metadata.annotations)
  return {
    kind: 'worker',
    ...code,
    modules,
    ...(assets !== undefined && { assets }),
    bindings: reading.bindings,
    compatibilityDate: metadata.compatibility_date ?? COMPATIBILITY_DATE_DEFAULT,
    compatibilityFlags: metadata.compatibility_flags ?? [],
    limits: cpuMs === undefined ? {} : { cpuMs },
    message,
    ...(tag !== undefined && { tag }),
  }
}

/** A version that differs from another in little, e.g. in a secret. */
export function requestOf(
  {
    kind,
    mainModule,
    format,
    assets,
    modules,
    bindings,
    compatibilityDate,
    compatibilityFlags,
    limits,
  }: WorkerContent,
  message: string,
): WorkerVersionRequest {
  return {
    kind,
    mainModule,
    ...(format !== undefined && { format }),
    ...(assets !== undefined && { assets }),
    modules,
    bindings,
    compatibilityDate,
    compatibilityFlags,
    limits,
    message,
  }
}

/** What is kept of an upload's version beside the version. */
export function uploadAnnotations({ annotations, placement }: UploadMetadata): VersionAnnotations {
  return {
    triggeredBy: 'upload',
    ...annotationsOf(annotations),
    ...(placement !== undefined && placement !== null && { placement }),
  }
}

/** As JSON of wrangler's API has them; what is absent or null is left out. */
export function annotationsOf(annotations: UploadMetadata['annotations']): VersionAnnotations {
  const { 'workers/message': message, 'workers/tag': tag } = annotations ?? {}
  return {
    ...(typeof message === 'string' && { message }),
    ...(typeof tag === 'string' && { tag }),
  }
}

/** Of metadata and of `script-settings`. What is absent stays as it was. */
export function settingsOf(
  metadata: Pick<UploadMetadata, 'logpush' | 'observability' | 'tail_consumers' | 'streaming_tail_consumers'>,
): ScriptSettings {
  const { logpush, observability, tail_consumers, streaming_tail_consumers } = metadata
  return {
    ...(typeof logpush === 'boolean' && { logpush }),
    ...(observability !== undefined && observability !== null && { observability }),
    ...(Array.isArray(tail_consumers) && { tailConsumers: tail_consumers }),
    ...(Array.isArray(streaming_tail_consumers) && { streamingTailConsumers: streaming_tail_consumers }),
  }
}

function codeOf(
  { main_module: mainModule, body_part: bodyPart }: UploadMetadata,
  { hasAssets }: { readonly hasAssets: boolean },
): Pick<WorkerVersionRequest, 'mainModule' | 'format'> {
  if (typeof mainModule === 'string') return { mainModule: moduleName(mainModule) }
  if (typeof bodyPart === 'string') return { mainModule: moduleName(bodyPart), format: 'service-worker' }
  if (hasAssets) return { mainModule: '' }
  throw new CloudflareError(
    'invalidScript',
    'the metadata names neither "main_module" nor "body_part", and there are no assets: name the part that the Worker begins with',
  )
}
