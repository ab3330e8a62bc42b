/**
 * The JSON documents of the registry as they are read back. What a disk or another node gives is checked before it is
 * believed. Unknown fields are kept, not refused: a node of this release must read, and not thin out, what a newer
 * one of the same format wrote while a fleet is being upgraded.
 */
import { z } from 'zod'
import { IsolaError } from '../../sdk/model/errors.ts'
import { MODULE_KINDS } from '../../sdk/model/bundle.ts'
import {
  CONTAINER_RUNTIMES,
  type AssetFile,
  type Deployment,
  type FunctionRecord,
  type Head,
  type Version,
} from '../../sdk/model/function.ts'
import type { FunctionLimitsCeiling, FunctionLimitsPatch } from '../../sdk/model/function-limits.ts'
import type { LambdaRecord } from '../../sdk/model/lambda.ts'
import { DEFAULT_POLICY, type PolicyPatch } from '../../sdk/model/policy.ts'
import type { FleetSettings, SettingChange } from '../../sdk/model/settings.ts'
import type { DispatchNamespace, WranglerRecord } from '../../sdk/model/wrangler.ts'

const hex = (digits: number): z.ZodString => z.string().regex(new RegExp(`^[0-9a-f]{${digits}}$`))
const versionId = hex(32)
const functionName = z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/)
const functionKind = z.enum(['worker', 'container'])
const count = z.number().int().nonnegative()

const moduleRef = z.looseObject({
  name: z.string().min(1),
  kind: z.enum(MODULE_KINDS),
  sha256: hex(64),
  sizeBytes: count,
})

const variables = [
  z.looseObject({ type: z.literal('text'), name: z.string().min(1), text: z.string() }),
  z.looseObject({ type: z.literal('json'), name: z.string().min(1), json: z.unknown() }),
] as const
const secret = z.looseObject({ type: z.literal('secret'), name: z.string().min(1), sealed: z.string() })
const variable = z.discriminatedUnion('type', [...variables, secret])
const binding = z.discriminatedUnion('type', [
  ...variables,
  z.looseObject({
    type: z.literal('service'),
    name: z.string().min(1),
    functionName,
    entrypoint: z.string().optional(),
    props: z.unknown().optional(),
  }),
  secret,
  z.looseObject({ type: z.literal('version-metadata'), name: z.string().min(1) }),
  z.looseObject({
    type: z.literal('rate-limit'),
    name: z.string().min(1),
    namespaceId: z.string(),
    limit: z.number().int().positive(),
    periodS: z.union([z.literal(10), z.literal(60)]),
  }),
  z.looseObject({ type: z.literal('assets'), name: z.string().min(1) }),
  z.looseObject({ type: z.literal('dispatch'), name: z.string().min(1), namespace: z.string() }),
  z.looseObject({ type: z.literal('module'), name: z.string().min(1), module: z.string() }),
])

const versionLimits = z.looseObject({
  cpuMs: z.number().positive().optional(),
  memoryMib: z.number().positive().optional(),
})

const workerContent = z.looseObject({
  kind: z.literal('worker'),
  mainModule: z.string(),
  format: z.enum(['module', 'service-worker']).optional(),
  modules: z.array(moduleRef),
  bindings: z.array(binding),
  compatibilityDate: z.string(),
  compatibilityFlags: z.array(z.string()),
  limits: versionLimits,
})

const containerContent = z.looseObject({
  kind: z.literal('container'),
  protocol: z.enum(['lambda', 'http']),
  source: z.discriminatedUnion('type', [
    z.looseObject({
      type: z.literal('code'),
      runtime: z.enum(CONTAINER_RUNTIMES),
      handler: z.string().min(1),
      archive: z.looseObject({ sha256: hex(64), sizeBytes: count }),
    }),
    z.looseObject({
      type: z.literal('image'),
      imageId: z.string().regex(/^sha256:[0-9a-f]{64}$/),
      entryPoint: z.array(z.string()).optional(),
      command: z.array(z.string()).optional(),
      workingDirectory: z.string().optional(),
    }),
  ]),
  bindings: z.array(variable),
  limits: versionLimits,
  settings: z.looseObject({
    timeoutMs: z.number().positive(),
    cpus: z.number().positive(),
    ephemeralStorageMib: z.number().positive(),
    egress: z.boolean(),
    responseStreaming: z.boolean(),
    port: z.number().int().positive(),
  }),
})

const versionDocument = z.looseObject({
  id: versionId,
  functionName,
  content: z.discriminatedUnion('kind', [workerContent, containerContent]),
  createdAt: z.string(),
  message: z.string(),
  tag: z.string().optional(),
}) satisfies z.ZodType<Version>

const assetFile = z.looseObject({
  sha256: hex(64),
  sizeBytes: count,
  contentType: z.string().optional(),
}) satisfies z.ZodType<AssetFile>

const deploymentDocument = z.looseObject({
  id: z.string().min(1),
  shares: z.array(z.looseObject({ versionId, percent: z.number().positive().max(100) })).min(1),
  createdAt: z.string(),
  message: z.string(),
  previousId: z.string().min(1).optional(),
}) satisfies z.ZodType<Deployment>

const policyPatch = z.looseObject({
  min: count.optional(),
  max: count.optional(),
  concurrency: count.optional(),
  queue: count.optional(),
  queueTimeoutMs: count.optional(),
  idleMs: z.union([count, z.literal('auto')]).optional(),
  pauseMs: count.optional(),
  ratePerS: z.number().nonnegative().optional(),
  burst: count.optional(),
  quota: count.optional(),
  weight: z.number().positive().optional(),
  prewarm: z.array(z.looseObject({ schedule: z.string(), min: count, forMs: count })).optional(),
}) satisfies z.ZodType<PolicyPatch>

const ceiling = z.looseObject({
  cpuMs: count.optional(),
  wallMs: count.optional(),
  memoryMib: count.optional(),
  subrequests: count.optional(),
  requestBytes: count.optional(),
  responseBytes: count.optional(),
  logBytesPerMin: count.optional(),
}) satisfies z.ZodType<FunctionLimitsCeiling>

const limitsPatch = ceiling.extend({
  egress: z.union([z.enum(['public', 'none']), z.array(z.string())]).optional(),
}) satisfies z.ZodType<FunctionLimitsPatch>

const settingChange = z.looseObject({
  at: z.string(),
  by: z.string(),
  what: z.enum(['policy', 'limits', 'ceiling']),
  before: z.record(z.string(), z.unknown()),
  after: z.record(z.string(), z.unknown()),
}) satisfies z.ZodType<SettingChange>

const fleetSettings = z.looseObject({
  policy: policyPatch,
  limits: limitsPatch,
  ceiling,
  changes: z.array(settingChange),
}) satisfies z.ZodType<FleetSettings>

const lambdaRecord = z.looseObject({
  role: z.string(),
  description: z.string(),
  tags: z.record(z.string(), z.string()),
  revisionId: z.string(),
  lastModified: z.string(),
  versions: z.array(
    z.looseObject({ number: count, versionId, description: z.string(), createdAt: z.string() }),
  ),
  nextVersion: count,
  aliases: z.record(
    z.string(),
    z.looseObject({
      description: z.string(),
      functionVersion: z.string(),
      weights: z.record(z.string(), z.number()),
      revisionId: z.string(),
    }),
  ),
  url: z
    .looseObject({
      authType: z.enum(['NONE', 'AWS_IAM']),
      invokeMode: z.enum(['BUFFERED', 'RESPONSE_STREAM']),
      createdAt: z.string(),
      lastModified: z.string(),
      cors: z.record(z.string(), z.unknown()).optional(),
    })
    .optional(),
  reservedConcurrency: count.optional(),
}) satisfies z.ZodType<LambdaRecord>

const wranglerRecord = z.looseObject({
  tag: z.string(),
  tags: z.array(z.string()),
  createdAt: z.string(),
  modifiedAt: z.string(),
  settings: z.looseObject({
    logpush: z.boolean().optional(),
    observability: z.unknown().optional(),
    tailConsumers: z.array(z.unknown()).optional(),
    streamingTailConsumers: z.array(z.unknown()).optional(),
  }),
  annotations: z.record(
    versionId,
    z.looseObject({
      message: z.string().optional(),
      tag: z.string().optional(),
      alias: z.string().optional(),
      triggeredBy: z.enum(['upload', 'secret', 'rollback', 'promotion']).optional(),
      placement: z.unknown().optional(),
    }),
  ),
  customDomains: z.array(z.string()),
}) satisfies z.ZodType<WranglerRecord>

const dispatchNamespace = z.looseObject({
  id: z.string().min(1),
  createdAt: z.string(),
  modifiedAt: z.string(),
  functionByScript: z.record(z.string(), functionName),
}) satisfies z.ZodType<DispatchNamespace>

const functionRecord = z.looseObject({
  name: functionName,
  kind: functionKind,
  deployment: deploymentDocument,
  recentVersionIds: z.array(versionId),
  routes: z.array(
    z.looseObject({
      pattern: z.string().min(1),
      source: z.enum(['config', 'operator']),
      origin: z.string().optional(),
    }),
  ),
  baseDomainHost: z.boolean(),
  previewHosts: z.boolean(),
  policy: policyPatch,
  limits: limitsPatch.optional(),
  changes: z.array(settingChange).optional(),
  asyncInvoke: z.looseObject({ retriesMax: count.optional(), maxAgeS: count.optional() }).optional(),
  lambda: lambdaRecord.optional(),
  wrangler: wranglerRecord.optional(),
}) satisfies z.ZodType<FunctionRecord>

const headDocument = z.looseObject({
  formatVersion: z.literal(1),
  generation: count,
  writeId: z.string().min(1),
  functions: z.record(functionName, functionRecord),
  settings: fleetSettings.optional(),
  dispatchNamespaces: z.record(z.string(), dispatchNamespace).optional(),
}) satisfies z.ZodType<Head>

/** Throws `data_unusable` that names the object and what is wrong in it. */
export function readHead(key: string, body: Uint8Array): Head {
  const json = parseJson(key, body)
  const formatVersion = (json as { formatVersion?: unknown } | null)?.formatVersion
  if (typeof formatVersion === 'number' && formatVersion > 1) {
    throw new IsolaError(
      'data_unusable',
      `object "${key}" has format ${formatVersion} and this release reads format 1: use the newer isola that wrote it`,
      { details: { key } },
    )
  }
  const head = check(key, headDocument, json)
  for (const [name, record] of Object.entries(head.functions)) head.functions[name] = withoutDefaults(record)
  return { ...head, functions: functionsByName(head.functions) }
}

/**
 * Releases before the fleet's own policy stored a whole policy with every function, which would now hide the fleet's. What
 * is the default there was not chosen; whoever chooses since then is recorded in `changes`.
 */
function withoutDefaults<R extends FunctionRecord>(record: R): R {
  if (record.changes !== undefined) return record
  const chosen = Object.entries(record.policy).filter(
    ([field, value]) => (DEFAULT_POLICY as unknown as Record<string, unknown>)[field] !== value,
  )
  return { ...record, policy: Object.fromEntries(chosen) }
}

/** Throws `data_unusable`. */
export function readVersion(key: string, body: Uint8Array): Version {
  return check(key, versionDocument, parseJson(key, body))
}

/** Throws `data_unusable`. */
export function readDeployment(key: string, body: Uint8Array): Deployment {
  return check(key, deploymentDocument, parseJson(key, body))
}

/** What a digest of wrangler's stands for. Throws `data_unusable`. */
export function readAssetFile(key: string, body: Uint8Array): AssetFile {
  return check(key, assetFile, parseJson(key, body))
}

export function writeDocument(document: Head | Version | Deployment): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(document))
}

/** Without a prototype: "constructor" is a good function name, and must not be found where there is none. */
export function functionsByName(functions: Head['functions']): Head['functions'] {
  return Object.assign(Object.create(null) as Record<string, FunctionRecord>, functions)
}

function parseJson(key: string, body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)) as unknown
  } catch (error) {
    throw damaged(key, (error as Error).message, error)
  }
}

function check<T>(key: string, schema: z.ZodType<T>, json: unknown): T {
  const result = schema.safeParse(json)
  if (result.success) return result.data
  const [issue] = result.error.issues
  const where = issue === undefined || issue.path.length === 0 ? '' : `${issue.path.join('.')}: `
  throw damaged(key, `${where}${issue?.message ?? 'invalid'}`, result.error)
}

function damaged(key: string, reason: string, cause: unknown): IsolaError {
  return new IsolaError(
    'data_unusable',
    `object "${key}" of the registry is damaged (${reason}): restore the bucket from a backup, or remove the object and deploy again`,
    { cause, details: { key } },
  )
}
