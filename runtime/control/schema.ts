/**
 * The bodies of the control API as they arrive. Strict: a field that is not known is refused by name, because a
 * misspelt one that is silently dropped changes what runs. What a value means is checked by the operations.
 */
import { z } from 'zod'
import { MODULE_KINDS } from '../../sdk/model/bundle.ts'
import type { DeployRequest, PullRequest, TrafficRequest, VersionRequest } from '../../sdk/model/control.ts'
import {
  CONTAINER_RUNTIMES,
  type Binding,
  type StaticAssets,
  type EnvironmentBinding,
} from '../../sdk/model/function.ts'
import { BUNDLE_LIMITS, CONTROL_LIMITS } from '../../sdk/model/limits.ts'

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hex digits')
const message = z.string().max(CONTROL_LIMITS.messageCharsMax).optional()
const tag = z.string().max(CONTROL_LIMITS.messageCharsMax).optional()

const moduleRef = z.strictObject({
  name: z.string(),
  kind: z.enum(MODULE_KINDS),
  sha256,
  sizeBytes: z.number().int().nonnegative(),
})

const variables = [
  z.strictObject({ type: z.literal('text'), name: z.string(), text: z.string() }),
  z.strictObject({ type: z.literal('json'), name: z.string(), json: z.json() }),
] as const

const secret = z.strictObject({ type: z.literal('secret'), name: z.string(), sealed: z.string() })

const binding = z.discriminatedUnion('type', [
  ...variables,
  z.strictObject({
    type: z.literal('service'),
    name: z.string(),
    functionName: z.string(),
    entrypoint: z.string().optional(),
    props: z.unknown().optional(),
  }),
  secret,
  z.strictObject({ type: z.literal('version-metadata'), name: z.string() }),
  z.strictObject({
    type: z.literal('rate-limit'),
    name: z.string(),
    namespaceId: z.string(),
    limit: z.number().int().positive(),
    periodS: z.union([z.literal(10), z.literal(60)]),
  }),
  z.strictObject({ type: z.literal('assets'), name: z.string() }),
  z.strictObject({ type: z.literal('dispatch'), name: z.string(), namespace: z.string() }),
  z.strictObject({ type: z.literal('module'), name: z.string(), module: z.string() }),
]) satisfies z.ZodType<Binding>

const variable = z.discriminatedUnion('type', [...variables, secret], {
  error:
    'a container function has variables only ("text", "json" and "secret"): call another function over HTTP by its host',
}) satisfies z.ZodType<EnvironmentBinding>

const limits = z.strictObject({ cpuMs: z.number().optional(), memoryMib: z.number().optional() }).optional()

const staticAssets = z.strictObject({
  manifest: z.strictObject({ sha256, sizeBytes: z.number().int().nonnegative() }),
  config: z.strictObject({
    htmlHandling: z
      .enum(['auto-trailing-slash', 'force-trailing-slash', 'drop-trailing-slash', 'none'])
      .optional(),
    notFoundHandling: z.enum(['single-page-application', '404-page', 'none']).optional(),
    runWorkerFirst: z.union([z.boolean(), z.array(z.string())]).optional(),
    redirects: z.string().optional(),
    headers: z.string().optional(),
  }),
}) satisfies z.ZodType<StaticAssets>

const workerFields = {
  kind: z.literal('worker'),
  mainModule: z.string(),
  format: z.enum(['module', 'service-worker']).optional(),
  assets: staticAssets.optional(),
  modules: z.array(moduleRef).max(BUNDLE_LIMITS.modulesCountMax),
  bindings: z.array(binding).max(BUNDLE_LIMITS.bindingsCountMax).default([]),
  compatibilityDate: z.string(),
  compatibilityFlags: z.array(z.string()).max(CONTROL_LIMITS.compatibilityFlagsMax).default([]),
  limits,
  message,
  tag,
}

const words = z.array(z.string().max(4_096)).max(100).optional()

const containerFields = {
  kind: z.literal('container'),
  protocol: z.enum(['lambda', 'http']),
  source: z.discriminatedUnion('type', [
    z.strictObject({
      type: z.literal('code'),
      runtime: z.enum(CONTAINER_RUNTIMES),
      handler: z.string(),
      archive: z.strictObject({ sha256, sizeBytes: z.number().int().nonnegative() }),
    }),
    z.strictObject({
      type: z.literal('image'),
      imageId: z.string().regex(/^sha256:[0-9a-f]{64}$/, 'expected "sha256:" and 64 lower-case hex digits'),
      entryPoint: words,
      command: words,
      workingDirectory: z.string().max(4_096).optional(),
    }),
  ]),
  bindings: z.array(variable).max(BUNDLE_LIMITS.bindingsCountMax).default([]),
  limits,
  settings: z
    .strictObject({
      timeoutMs: z.number(),
      cpus: z.number(),
      ephemeralStorageMib: z.number(),
      egress: z.boolean(),
      responseStreaming: z.boolean(),
      port: z.number(),
    })
    .partial()
    .optional(),
  message,
}

const hosting = {
  routes: z
    .array(z.strictObject({ pattern: z.string() }))
    .max(CONTROL_LIMITS.routesPerFunctionMax)
    .default([]),
  baseDomainHost: z.boolean().default(true),
  previewHosts: z.boolean().default(true),
}

export const versionRequestSchema = z.discriminatedUnion('kind', [
  z.strictObject(workerFields),
  z.strictObject(containerFields),
]) satisfies z.ZodType<VersionRequest>

export const deployRequestSchema = z.discriminatedUnion('kind', [
  z.strictObject({ ...workerFields, ...hosting }),
  z.strictObject({ ...containerFields, ...hosting }),
]) satisfies z.ZodType<DeployRequest>

export const trafficRequestSchema = z.strictObject({
  shares: z.array(z.strictObject({ versionId: z.string(), percent: z.number() })),
  message,
}) satisfies z.ZodType<TrafficRequest>

export const rollbackRequestSchema = z.strictObject({ versionId: z.string().optional(), message })

export const putSecretRequestSchema = z.strictObject({ text: z.string() })

export const addRouteRequestSchema = z.strictObject({ pattern: z.string(), origin: z.string().optional() })

export const removeRouteRequestSchema = z.strictObject({ pattern: z.string() })

/** The fields are checked by the parsers of `sdk/model`, which name each bound. No field is lost on the way to them. */
export const patchRequestSchema = z.custom<Readonly<Record<string, unknown>>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'Invalid input: expected object',
)

export const settingsRequestSchema = z.strictObject({
  policy: patchRequestSchema.optional(),
  limits: patchRequestSchema.optional(),
  ceiling: patchRequestSchema.optional(),
})

export const pullRequestSchema = z
  .strictObject({
    reference: z
      .string()
      .max(CONTROL_LIMITS.imageReferenceCharsMax)
      .regex(/^[a-z0-9][\w.:/@-]*$/i, 'expected "registry/name:tag" or "registry/name@sha256:…"'),
    username: z.string().max(CONTROL_LIMITS.credentialCharsMax).optional(),
    password: z.string().max(CONTROL_LIMITS.credentialCharsMax).optional(),
  })
  .refine(
    ({ username, password }) => (username === undefined) === (password === undefined),
    'username and password go together: give both, or none',
  ) satisfies z.ZodType<PullRequest>

export const missingBlobsRequestSchema = z.strictObject({
  digests: z.array(sha256).max(BUNDLE_LIMITS.modulesCountMax),
})
