/**
 * The bodies of the control API as they arrive. Strict: a field that is not known is refused by name, because a
 * misspelt one that is silently dropped changes what runs. What a value means is checked by the operations.
 */
import { z } from 'zod'
import { MODULE_KINDS } from '../../sdk/model/bundle.ts'
import type { DeployRequest, TrafficRequest, VersionRequest } from '../../sdk/model/control.ts'
import type { Binding } from '../../sdk/model/function.ts'
import { BUNDLE_LIMITS, CONTROL_LIMITS } from '../../sdk/model/limits.ts'

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hex digits')
const message = z.string().max(CONTROL_LIMITS.messageCharsMax).optional()

const moduleRef = z.strictObject({
  name: z.string(),
  kind: z.enum(MODULE_KINDS),
  sha256,
  sizeBytes: z.number().int().nonnegative(),
})

const binding = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text'), name: z.string(), text: z.string() }),
  z.strictObject({ type: z.literal('json'), name: z.string(), json: z.json() }),
]) satisfies z.ZodType<Binding>

const versionFields = {
  kind: z.enum(['worker', 'container']),
  mainModule: z.string(),
  modules: z.array(moduleRef).max(BUNDLE_LIMITS.modulesCountMax),
  bindings: z.array(binding).max(BUNDLE_LIMITS.bindingsCountMax).default([]),
  compatibilityDate: z.string(),
  compatibilityFlags: z.array(z.string()).max(CONTROL_LIMITS.compatibilityFlagsMax).default([]),
  limits: z.strictObject({ cpuMs: z.number().optional(), memoryMib: z.number().optional() }).optional(),
  message,
}

export const versionRequestSchema = z.strictObject(versionFields) satisfies z.ZodType<VersionRequest>

export const deployRequestSchema = z.strictObject({
  ...versionFields,
  routes: z
    .array(z.strictObject({ pattern: z.string() }))
    .max(CONTROL_LIMITS.routesPerFunctionMax)
    .default([]),
  baseDomainHost: z.boolean().default(true),
  previewHosts: z.boolean().default(true),
}) satisfies z.ZodType<DeployRequest>

export const trafficRequestSchema = z.strictObject({
  shares: z.array(z.strictObject({ versionId: z.string(), percent: z.number() })),
  message,
}) satisfies z.ZodType<TrafficRequest>

export const rollbackRequestSchema = z.strictObject({ versionId: z.string().optional(), message })

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

export const missingBlobsRequestSchema = z.strictObject({
  digests: z.array(sha256).max(BUNDLE_LIMITS.modulesCountMax),
})
