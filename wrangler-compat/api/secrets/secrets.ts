/**
 * Secrets are bindings of versions, so every change makes a version: `secret` puts it into service, `versions secret` does
 * not. What was sealed once is never shown again.
 */
import { z } from 'zod'
import { readJson } from '../../../runtime/control/request-body.ts'
import type { Binding } from '../../../sdk/model/function.ts'
import { BUNDLE_LIMITS, WRANGLER_API_LIMITS } from '../../../sdk/model/limits.ts'
import { CloudflareError } from '../api-error.ts'
import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import { wholeList } from '../envelope.ts'
import { findScript } from '../script-record.ts'
import { annotationsSchema } from '../upload/metadata.ts'
import { annotationsOf } from '../upload/version-request.ts'
import { newestVersionId } from '../versions/newest-version.ts'
import { versionUuid } from '../version-uuid.ts'
import { changeBindings } from './change-bindings.ts'

/** A name that another binding has. */
const NAME_TAKEN = 10053
/** A secret to delete that is not there. */
const SECRET_NOT_FOUND = 10056

const text = z.string().refine((value) => Buffer.byteLength(value) <= BUNDLE_LIMITS.varBytesMax, {
  error: `a secret has at most ${BUNDLE_LIMITS.varBytesMax} bytes`,
})
const secret = z.object({ text, type: z.literal('secret_text').nullish() })
const namedSecret = z.object({ ...secret.shape, name: z.string().min(1) })
const atMost = (secrets: object): boolean =>
  Object.keys(secrets).length <= WRANGLER_API_LIMITS.secretsPerCallMax
const tooMany = { error: `at most ${WRANGLER_API_LIMITS.secretsPerCallMax} secrets a call` }
const bulkSchema = z.object({ secrets: z.record(z.string(), secret.nullable()).refine(atMost, tooMany) })
const latestSchema = z.object({
  env: z.record(z.string(), secret.nullable()).refine(atMost, tooMany).optional(),
  annotations: annotationsSchema,
})

/** By name; null deletes. */
type SecretChanges = ReadonlyMap<string, string | null>

export const secretEndpoints: Endpoints = {
  'GET /accounts/:account/workers/scripts/:script/secrets': async (call) =>
    wholeList(await listSecrets(call, param(call, 'script'))),
  'PUT /accounts/:account/workers/scripts/:script/secrets': async (call) => {
    const { name, text } = await readJson(call.request, namedSecret)
    await changeSecrets(call, new Map([[name, text]]))
    return { name, type: 'secret_text' }
  },
  'GET /accounts/:account/workers/scripts/:script/secrets/:name': async (call) => {
    const name = param(call, 'name')
    const found = (await listSecrets(call, param(call, 'script'))).find((each) => each.name === name)
    return found ?? secretNotFound(param(call, 'script'), name)
  },
  'DELETE /accounts/:account/workers/scripts/:script/secrets/:name': async (call) => {
    const name = param(call, 'name')
    await changeSecrets(call, new Map([[name, null]]))
    return { name }
  },
  'PATCH /accounts/:account/workers/scripts/:script/secrets-bulk': async (call) => {
    const { secrets } = await readJson(call.request, bulkSchema)
    await changeSecrets(call, changesOf(secrets))
    return { secrets: await listSecrets(call, param(call, 'script')) }
  },
  'PATCH /accounts/:account/workers/workers/:script/versions/latest': async (call) => {
    const { env = {}, annotations } = await readJson(call.request, latestSchema)
    const script = param(call, 'script')
    const changes = changesOf(env)
    const id = await changeBindings(call, {
      script,
      isDeployed: false,
      annotations: { triggeredBy: 'secret', ...annotationsOf(annotations) },
      change: ({ bindings }) => withSecrets(call, script, bindings, changes),
    })
    return { id: versionUuid(id) }
  },
}

async function changeSecrets(call: ApiCall, changes: SecretChanges): Promise<void> {
  const script = param(call, 'script')
  findScript(call.ports.registry.head, script)
  await changeBindings(call, {
    script,
    isDeployed: true,
    annotations: { triggeredBy: 'secret' },
    change: ({ bindings }) => withSecrets(call, script, bindings, changes),
  })
}

async function listSecrets(
  { ports: { registry } }: ApiCall,
  script: string,
): Promise<readonly { readonly name: string; readonly type: 'secret_text' }[]> {
  const record = findScript(registry.head, script)
  const id = newestVersionId(record)
  const version = id === undefined ? undefined : await registry.getVersion(script, id)
  return (version?.content.bindings ?? [])
    .filter(({ type }) => type === 'secret')
    .map(({ name }) => ({ name, type: 'secret_text' }))
}

function changesOf(secrets: Readonly<Record<string, { readonly text: string } | null>>): SecretChanges {
  return new Map(Object.entries(secrets).map(([name, secret]) => [name, secret?.text ?? null]))
}

function withSecrets(
  { ports }: ApiCall,
  functionName: string,
  bindings: readonly Binding[],
  changes: SecretChanges,
): readonly Binding[] {
  const byName = new Map(bindings.map((binding) => [binding.name, binding]))
  for (const [name, text] of changes) {
    const existing = byName.get(name)
    if (existing !== undefined && existing.type !== 'secret') {
      throw new CloudflareError(
        'invalidScript',
        `Binding name '${name.slice(0, 100)}' already in use by a binding of type "${existing.type}": use a different name`,
        { code: NAME_TAKEN },
      )
    }
    if (text !== null) {
      byName.set(name, { type: 'secret', name, sealed: ports.secrets.seal({ functionName, name, text }) })
    } else if (!byName.delete(name)) secretNotFound(functionName, name)
  }
  return [...byName.values()]
}

function secretNotFound(functionName: string, name: string): never {
  throw new CloudflareError(
    'scriptNotFound',
    `"${functionName}" has no secret ${JSON.stringify(name.slice(0, 100))}: "wrangler secret list" shows those it has`,
    { code: SECRET_NOT_FOUND },
  )
}
