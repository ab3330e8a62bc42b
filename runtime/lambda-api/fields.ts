/**
 * Bodies of requests as AWS's clients send them. A field that isola has nothing for is refused by its name, unless its
 * value asks for nothing (an empty list, `TracingConfig: PassThrough`): dropping it silently would change what runs.
 */
import { z } from 'zod'
import { CONTROL_LIMITS, LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { ApiError } from './api-error.ts'

const L = LAMBDA_API_LIMITS

export const text = z.string()
export const description = z.string().max(L.descriptionCharsMax)
export const whole = (least: number, most: number): z.ZodNumber => z.number().int().min(least).max(most)
const words = z.array(z.string().max(4_096)).max(1_500)

export const tags = z.record(z.string().min(1).max(128), z.string().max(256))

const configurationFields = {
  Role: text.optional(),
  Description: description.optional(),
  Runtime: text.optional(),
  Handler: z.string().max(128).optional(),
  Timeout: whole(1, L.timeoutSMax).optional(),
  MemorySize: whole(L.memoryMibMin, L.memoryMibMax).optional(),
  EphemeralStorage: z.object({ Size: whole(L.ephemeralStorageMibMin, L.ephemeralStorageMibMax) }).optional(),
  Environment: z.object({ Variables: z.record(z.string(), z.string()).optional() }).optional(),
  ImageConfig: z
    .object({
      EntryPoint: words.optional(),
      Command: words.optional(),
      WorkingDirectory: z.string().max(1_000).optional(),
    })
    .optional(),
}

const codeFields = {
  ZipFile: text.optional(),
  ImageUri: z.string().max(1_024).optional(),
}

const architectures = z
  .array(z.enum(['x86_64', 'arm64']))
  .max(1)
  .optional()

export const createFunctionFields = z.object({
  ...configurationFields,
  FunctionName: text,
  PackageType: z.enum(['Zip', 'Image']).optional(),
  Code: z.object(codeFields),
  Architectures: architectures,
  Publish: z.boolean().optional(),
  Tags: tags.optional(),
})

export const updateConfigurationFields = z.object({ ...configurationFields, RevisionId: text.optional() })

export const updateCodeFields = z.object({
  ...codeFields,
  Architectures: architectures,
  Publish: z.boolean().optional(),
  DryRun: z.boolean().optional(),
  RevisionId: text.optional(),
})

export type ConfigurationFields = z.infer<typeof updateConfigurationFields>
export type CodeFields = Pick<z.infer<typeof updateCodeFields>, 'ZipFile' | 'ImageUri'>
export type CreateFunctionFields = z.infer<typeof createFunctionFields>

/** Throws `InvalidRequestContentException`, `SerializationException`, `ValidationException`, and by name what is not supported. */
export function readFields<Shape extends z.ZodRawShape>(
  body: Uint8Array,
  schema: z.ZodObject<Shape>,
): z.infer<z.ZodObject<Shape>> {
  const json = withoutNulls(body.byteLength === 0 ? {} : parseJson(body))
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ApiError(
      'InvalidRequestContentException',
      'Could not parse request body into json: it is no object.',
    )
  }
  checkDepth(json)
  refuseUnknown(json as Record<string, unknown>, schema.shape, '')
  const code = (json as { Code?: unknown }).Code
  if (typeof code === 'object' && code !== null && Object.hasOwn(schema.shape, 'Code')) {
    refuseUnknown(code as Record<string, unknown>, codeFields, 'Code.')
  }
  const result = schema.safeParse(json)
  if (result.success) return result.data
  throw asApiError(result.error, json)
}

/** Throws `InvalidRequestContentException`. */
export function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)) as unknown
  } catch (error) {
    throw new ApiError(
      'InvalidRequestContentException',
      `Could not parse request body into json: ${(error as Error).message.slice(0, 200)}`,
      { cause: error },
    )
  }
}

/** Before anything recursive sees it, which would end the call stack. */
function checkDepth(json: object): void {
  let level: unknown[] = [json]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > CONTROL_LIMITS.jsonDepthMax) {
      throw new ApiError(
        'InvalidRequestContentException',
        `Could not parse request body into json: it is nested deeper than ${CONTROL_LIMITS.jsonDepthMax} levels.`,
      )
    }
    level = level.flatMap((value) =>
      typeof value === 'object' && value !== null ? Object.values(value) : [],
    )
  }
}

/** Clients send `null` for what they leave out. Only of the outermost object: deeper ones are values. */
function withoutNulls(json: unknown): unknown {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return json
  return Object.fromEntries(Object.entries(json).filter(([, value]) => value !== null))
}

/** Values that AWS has as the default, by field. */
const NEUTRAL: Readonly<Record<string, string>> = {
  'TracingConfig.Mode': 'PassThrough',
  'SnapStart.ApplyOn': 'None',
  'LoggingConfig.LogFormat': 'Text',
}

const S3_FIELDS = ['S3Bucket', 'S3Key', 'S3ObjectVersion', 'S3ObjectStorageMode']

function refuseUnknown(json: Record<string, unknown>, known: object, prefix: string): void {
  for (const [field, value] of Object.entries(json)) {
    if (Object.hasOwn(known, field) || asksForNothing(`${prefix}${field}`, value)) continue
    const what = S3_FIELDS.includes(field)
      ? `${prefix}${field} is not supported by isola, which has no S3 to read code from: send the archive itself (ZipFile), or an image (ImageUri)`
      : `${prefix}${field} is not supported by isola: leave it out`
    throw new ApiError('InvalidParameterValueException', `${what}.`)
  }
}

function asksForNothing(field: string, value: unknown): boolean {
  if (value === null || value === '' || value === false) return true
  if (Array.isArray(value)) return value.length === 0
  if (typeof value === 'object') {
    return Object.entries(value).every(([name, inner]) => asksForNothing(`${field}.${name}`, inner))
  }
  return NEUTRAL[field] === value
}

/** In AWS's words as far as they go. */
function asApiError(error: z.ZodError, json: unknown): ApiError {
  const lines = error.issues.slice(0, 5).map((issue) => {
    const value = valueAt(json, issue.path)
    const path = issue.path.map(String).map(lowerFirst).join('.')
    const shown = (typeof value === 'string' ? value : (JSON.stringify(value) ?? 'null')).slice(0, 100)
    return `Value '${shown}' at '${path}' failed to satisfy constraint: ${constraintOf(issue)}`
  })
  const isShape = error.issues.some(
    ({ code, path }) => code === 'invalid_type' && valueAt(json, path) !== undefined,
  )
  const count = `${error.issues.length} validation error${error.issues.length === 1 ? '' : 's'} detected`
  return new ApiError(
    isShape ? 'SerializationException' : 'ValidationException',
    `${count}: ${lines.join('; ')}`,
  )
}

function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (outer, key) => (typeof outer === 'object' && outer !== null ? outer[key as never] : undefined),
    json,
  )
}

function constraintOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'too_small') {
    return `Member must have ${issue.origin === 'string' ? 'length' : 'value'} greater than or equal to ${issue.minimum}`
  }
  if (issue.code === 'too_big') {
    const what = issue.origin === 'string' || issue.origin === 'array' ? 'length' : 'value'
    return `Member must have ${what} less than or equal to ${issue.maximum}`
  }
  if (issue.code === 'invalid_value') {
    return `Member must satisfy enum value set: [${issue.values.map(String).join(', ')}]`
  }
  return issue.message
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1)
}
