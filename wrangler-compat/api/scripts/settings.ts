/**
 * `settings` are those of the newest version and of the script together; `script-settings` only the script's. Older
 * releases of wrangler set secrets by sending all bindings to `settings` again, those that stay without their values.
 */
import { z } from 'zod'
import { parseJson, readJson } from '../../../runtime/control/request-body.ts'
import { isWorkerVersion, type FunctionRecord, type Version } from '../../../sdk/model/function.ts'
import { readBindings, refusalText } from '../../bindings/read-bindings.ts'
import { CloudflareError } from '../api-error.ts'
import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import { findScript, withWrangler, wranglerRecord } from '../script-record.ts'
import { settingsFields } from '../upload/metadata.ts'
import { readUploadForm } from '../upload/upload-form.ts'
import { settingsOf } from '../upload/version-request.ts'
import { changeBindings } from '../secrets/change-bindings.ts'
import { newestVersionId } from '../versions/newest-version.ts'
import { showBindings } from '../versions/show-version.ts'
import { swapFunction } from '../../../runtime/control/swap-function.ts'

const scriptSettingsSchema = z.object(settingsFields)
const settingsSchema = z.object({ bindings: z.array(z.unknown()).optional(), ...settingsFields })

export const settingsEndpoints: Endpoints = {
  'GET /accounts/:account/workers/scripts/:script/settings': (call) =>
    readSettings(call, findScript(call.ports.registry.head, param(call, 'script'))),
  'PATCH /accounts/:account/workers/scripts/:script/settings': patchSettings,
  'GET /accounts/:account/workers/scripts/:script/script-settings': (call) =>
    showScriptSettings(findScript(call.ports.registry.head, param(call, 'script'))),
  'PATCH /accounts/:account/workers/scripts/:script/script-settings': async (call) => {
    const patch = await readJson(call.request, scriptSettingsSchema)
    return showScriptSettings(await swapSettings(call, param(call, 'script'), patch))
  },
}

async function readSettings({ ports }: ApiCall, record: FunctionRecord): Promise<Record<string, unknown>> {
  const id = newestVersionId(record)
  const version = id === undefined ? undefined : await ports.registry.getVersion(record.name, id)
  return {
    ...showScriptSettings(record),
    ...(version !== undefined && versionSettings(record, version)),
    bindings: version === undefined ? [] : showBindings(version),
    usage_model: 'standard',
  }
}

function versionSettings(record: FunctionRecord, version: Version): Record<string, unknown> {
  const { placement } = wranglerRecord(record).annotations[version.id] ?? {}
  const { cpuMs } = version.content.limits
  return {
    ...(isWorkerVersion(version) && {
      compatibility_date: version.content.compatibilityDate,
      compatibility_flags: version.content.compatibilityFlags,
    }),
    ...(placement !== undefined && { placement }),
    ...(cpuMs !== undefined && { limits: { cpu_ms: cpuMs } }),
  }
}

function showScriptSettings(record: FunctionRecord): Record<string, unknown> {
  const { tags, settings } = wranglerRecord(record)
  const { logpush = false, observability = { enabled: false } } = settings
  const { tailConsumers = [], streamingTailConsumers = [] } = settings
  return {
    tags,
    logpush,
    observability,
    tail_consumers: tailConsumers,
    streaming_tail_consumers: streamingTailConsumers,
  }
}

async function swapSettings(
  { ports }: ApiCall,
  script: string,
  patch: z.output<typeof scriptSettingsSchema>,
): Promise<FunctionRecord> {
  const { record } = await swapFunction(ports, (head) =>
    withWrangler(findScript(head, script), ({ settings, tags }) => ({
      settings: { ...settings, ...settingsOf(patch) },
      tags: patch.tags ?? tags,
    })),
  )
  return record
}

async function patchSettings(call: ApiCall): Promise<Record<string, unknown>> {
  const script = param(call, 'script')
  const { registry, secrets } = call.ports
  findScript(registry.head, script)
  const { bindings, ...patch } = await readSettingsForm(call.request)
  if (bindings !== undefined) {
    await changeBindings(call, {
      script,
      isDeployed: true,
      annotations: { triggeredBy: 'secret' },
      change: ({ assets, modules, bindings: previous }) => {
        const reading = readBindings(bindings.map(withoutValueInherits), {
          previous,
          keep: [],
          modules: new Map(modules.map(({ name, kind }) => [name, kind])),
          hasAssets: assets !== undefined,
          seal: (secret) => secrets.seal({ functionName: script, ...secret }),
        })
        if ('bindings' in reading) return reading.bindings
        throw new CloudflareError('invalidScript', refusalText(reading.refusals))
      },
    })
  }
  return await readSettings(call, await swapSettings(call, script, patch))
}

function withoutValueInherits(binding: unknown): unknown {
  const { name, type, text } = (binding ?? {}) as { name?: unknown; type?: unknown; text?: unknown }
  return type === 'secret_text' && text === undefined ? { name, type: 'inherit' } : binding
}

/** The part `settings` of a form; JSON alone is taken as well. */
async function readSettingsForm(request: Request): Promise<z.output<typeof settingsSchema>> {
  const isForm = (request.headers.get('content-type') ?? '').startsWith('multipart/')
  if (!isForm) return await readJson(request, settingsSchema)
  const store = (): Promise<never> => {
    throw new CloudflareError('malformed', 'settings have no files: send the part "settings" alone')
  }
  const { json = '{}' } = await readUploadForm(request, { jsonPart: 'settings', store })
  const result = settingsSchema.safeParse(parseJson(Buffer.from(json)))
  if (result.success) return result.data
  throw new CloudflareError('malformed', `the settings are not right: ${z.prettifyError(result.error)}`)
}
