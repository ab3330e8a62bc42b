/**
 * The part `metadata` of an upload. Keys that are not known are left alone, as Cloudflare does: newer clients send more
 * than older servers know. What would change how the Worker runs and is not there yet is refused by name.
 */
import { z } from 'zod'
import { parseJson } from '../../../runtime/control/request-body.ts'
import { isIsolaError } from '../../../sdk/model/errors.ts'
import { CONTROL_LIMITS, TAIL_LIMITS, WRANGLER_API_LIMITS } from '../../../sdk/model/limits.ts'
import { unsupportedBindings } from '../../bindings/read-bindings.ts'
import { CloudflareError } from '../api-error.ts'

const annotation = z.string().max(CONTROL_LIMITS.messageCharsMax).nullish()

export const annotationsSchema = z
  .object({ 'workers/message': annotation, 'workers/tag': annotation, 'workers/alias': annotation })
  .nullish()

/** Kept as it came, in the head that every node reads again and again: so it is bounded. */
function kept<Schema extends z.ZodType>(schema: Schema): Schema {
  const { keptJsonCharsMax: most } = WRANGLER_API_LIMITS
  return schema.refine((value) => (JSON.stringify(value)?.length ?? 0) <= most, {
    error: `it has more than the ${most} characters that are kept of it: send less`,
  })
}

/** One that is not deployed yet gets its events from when it is. */
const tailConsumers = z
  .array(kept(z.looseObject({ service: z.string().min(1).max(100) })))
  .max(TAIL_LIMITS.consumersPerFunctionMax)
  .nullish()

const streamingTailConsumers = z
  .array(z.unknown())
  .max(
    0,
    'streaming tail consumers are not there on isola yet: name the Worker in "tail_consumers", whose tail handler is called',
  )
  .nullish()

/** What is set for a script and not for a version. */
export const settingsFields = {
  tags: z.array(z.string().max(1_024)).max(100).nullish(),
  logpush: z.boolean().nullish(),
  observability: kept(z.unknown()).optional(),
  tail_consumers: tailConsumers,
  streaming_tail_consumers: streamingTailConsumers,
}

const metadataSchema = z.object({
  main_module: z.string().nullish(),
  body_part: z.string().nullish(),
  bindings: z.unknown().optional(),
  keep_bindings: z.array(z.string()).max(100).nullish(),
  compatibility_date: z.string().nullish(),
  compatibility_flags: z.array(z.string()).max(CONTROL_LIMITS.compatibilityFlagsMax).nullish(),
  limits: z.object({ cpu_ms: z.number().nullish() }).nullish(),
  placement: kept(z.unknown()).optional(),
  annotations: annotationsSchema,
  assets: z.object({ jwt: z.string().nullish(), config: z.unknown().optional() }).nullish(),
  keep_assets: z.boolean().nullish(),
  migrations: z.unknown().optional(),
  exports: z.unknown().optional(),
  containers: z.unknown().optional(),
  ...settingsFields,
})

export type UploadMetadata = z.output<typeof metadataSchema>

/** Throws `malformed` where it is no JSON, `invalidScript` that names the field. */
export function parseMetadata(json: string | undefined): UploadMetadata {
  if (json === undefined) {
    throw new CloudflareError(
      'malformed',
      'the upload has no part "metadata": send one, JSON, that names the main module',
    )
  }
  const result = metadataSchema.safeParse(parsed(json))
  if (!result.success) {
    const problems = result.error.issues.slice(0, 5).map(({ path, message }) => {
      return path.length === 0 ? message : `"${path.join('.')}": ${message}`
    })
    throw new CloudflareError('invalidScript', `the metadata is not right: ${problems.join('; ')}`)
  }
  refuseMissing(result.data)
  return result.data
}

function parsed(json: string): unknown {
  try {
    return parseJson(Buffer.from(json))
  } catch (error) {
    if (!isIsolaError(error)) throw error
    throw new CloudflareError('malformed', `the part "metadata": ${error.message}`, { cause: error })
  }
}

function refuseMissing(metadata: UploadMetadata): void {
  const { migrations, exports, containers, annotations, bindings } = metadata
  const problems: string[] = []
  const alias = annotations?.['workers/alias']
  if (typeof alias === 'string') {
    // wrangler would print a host for it, at which nothing answers.
    problems.push(
      `the preview alias ${JSON.stringify(alias.slice(0, 100))} asks for a host of its own, which isola does not have: leave out --preview-alias, and use the version's preview URL`,
    )
  }
  if (migrations !== undefined && migrations !== null) {
    problems.push(
      '"migrations" asks for Durable Objects, which isola does not have yet: remove them, with the classes and bindings they are for',
    )
  }
  const stateful = Object.entries(typeof exports === 'object' ? (exports ?? {}) : {}).filter(
    ([, entry]) => (entry as { type?: unknown } | null)?.type !== 'worker',
  )
  for (const [name, entry] of stateful) {
    const type = String((entry as { type?: unknown } | null)?.type).slice(0, 60)
    problems.push(
      `"exports.${name.slice(0, 100)}" is of type ${JSON.stringify(type)}, which isola does not have yet: remove it`,
    )
  }
  if (Array.isArray(containers) && containers.length > 0) {
    problems.push(
      '"containers" asks for containers behind Durable Objects, which isola does not have yet: deploy the image as a container function (isola deploy), and call it by a service binding',
    )
  }
  if (problems.length === 0) return
  // With a migration comes the binding it is for: one answer names both.
  throw new CloudflareError('invalidScript', [...problems, ...unsupportedBindings(bindings)].join('\n'))
}
