import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import type { LambdaAlias, LambdaRecord } from '../../sdk/model/lambda.ts'
import { ApiError } from './api-error.ts'
import { noContent, type Call } from './call.ts'
import { description, readFields, text } from './fields.ts'
import { functionArn, functionNotFound, LATEST, referenceOf } from './function-name.ts'
import { changeLambda, checkRevision, findLambdaFunction } from './lambda-function.ts'
import { listPage } from './list-page.ts'

const routing = z.object({
  AdditionalVersionWeights: z.record(z.string(), z.number().min(0).max(1)).optional(),
})

const aliasFields = {
  Description: description.optional(),
  FunctionVersion: text.max(1_024).optional(),
  RoutingConfig: routing.optional(),
}

const createAliasFields = z.object({
  ...aliasFields,
  FunctionVersion: text.max(1_024),
  Name: z.string().regex(/^(?!^[0-9]+$)(?!__proto__$)[a-zA-Z0-9_-]{1,128}$/, {
    error: 'Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)',
  }),
})

const updateAliasFields = z.object({ ...aliasFields, RevisionId: text.optional() })

export async function createAlias(call: Call): Promise<Response> {
  const { name } = referenceOf(call)
  const { Name, FunctionVersion, Description, RoutingConfig } = readFields(call.body, createAliasFields)
  await findLambdaFunction(call, name)
  const alias: LambdaAlias = {
    description: Description ?? '',
    functionVersion: FunctionVersion,
    weights: RoutingConfig?.AdditionalVersionWeights ?? {},
    revisionId: randomUUID(),
  }
  await changeLambda(call, name, (lambda) => {
    if (Object.hasOwn(lambda.aliases, Name)) {
      throw new ApiError(
        'ResourceConflictException',
        `Alias already exists: ${functionArn(call, name, Name)}`,
      )
    }
    if (Object.keys(lambda.aliases).length >= LAMBDA_API_LIMITS.aliasesMax) {
      throw refusal(
        `"${name}" has ${LAMBDA_API_LIMITS.aliasesMax} aliases, the most there may be: delete one.`,
      )
    }
    return withAlias(call, { name, lambda, aliasName: Name, alias })
  })
  return Response.json(describeAlias(call, name, Name, alias), { status: 201 })
}

export async function updateAlias(call: Call): Promise<Response> {
  const { name } = referenceOf(call)
  const { aliasName } = await findAlias(call)
  const fields = readFields(call.body, updateAliasFields)
  const { Description, FunctionVersion, RoutingConfig } = fields
  const lambda = await changeLambda(call, name, (lambda) => {
    const before = aliasOf(call, lambda, name, aliasName)
    checkRevision(fields.RevisionId, before.revisionId)
    const alias: LambdaAlias = {
      description: Description ?? before.description,
      functionVersion: FunctionVersion ?? before.functionVersion,
      weights: RoutingConfig === undefined ? before.weights : (RoutingConfig.AdditionalVersionWeights ?? {}),
      revisionId: randomUUID(),
    }
    return withAlias(call, { name, lambda, aliasName, alias })
  })
  return Response.json(describeAlias(call, name, aliasName, aliasOf(call, lambda, name, aliasName)))
}

export async function getAlias(call: Call): Promise<Response> {
  const { name, aliasName, alias } = await findAlias(call)
  return Response.json(describeAlias(call, name, aliasName, alias))
}

export async function listAliases(call: Call): Promise<Response> {
  const { name } = referenceOf(call)
  const { lambda } = await findLambdaFunction(call, name)
  const of = call.url.searchParams.get('FunctionVersion')
  const aliases = Object.entries(lambda.aliases).filter(
    ([, { functionVersion, weights }]) => !of || functionVersion === of || Object.hasOwn(weights, of),
  )
  const { items, next } = listPage(call, aliases, ([aliasName]) => aliasName)
  return Response.json({
    Aliases: items.map(([aliasName, alias]) => describeAlias(call, name, aliasName, alias)),
    NextMarker: next ?? null,
  })
}

/** One that is gone is well deleted. */
export async function deleteAlias(call: Call): Promise<Response> {
  const { name } = referenceOf(call)
  const aliasName = call.parameters['Name'] ?? ''
  await findLambdaFunction(call, name)
  await changeLambda(call, name, (lambda) => {
    if (!Object.hasOwn(lambda.aliases, aliasName)) return lambda
    const { [aliasName]: _deleted, ...aliases } = lambda.aliases
    return { ...lambda, aliases }
  })
  return noContent()
}

async function findAlias(
  call: Call,
): Promise<{ readonly name: string; readonly aliasName: string; readonly alias: LambdaAlias }> {
  const { name } = referenceOf(call)
  const aliasName = call.parameters['Name'] ?? ''
  const { lambda } = await findLambdaFunction(call, name)
  return { name, aliasName, alias: aliasOf(call, lambda, name, aliasName) }
}

function aliasOf(call: Call, lambda: LambdaRecord, name: string, aliasName: string): LambdaAlias {
  const alias = Object.hasOwn(lambda.aliases, aliasName) ? lambda.aliases[aliasName] : undefined
  if (alias !== undefined) return alias
  throw new ApiError(
    'ResourceNotFoundException',
    `Cannot find alias arn: ${functionArn(call, name, aliasName.slice(0, 128))}`,
  )
}

/** Throws `ResourceNotFoundException` for a version that is none, `InvalidParameterValueException` for weights that cannot be. */
function withAlias(
  call: Call,
  options: {
    readonly name: string
    readonly lambda: LambdaRecord
    readonly aliasName: string
    readonly alias: LambdaAlias
  },
): LambdaRecord {
  const { name, lambda, aliasName, alias } = options
  const { functionVersion, weights } = alias
  const others = Object.keys(weights)
  for (const number of [functionVersion, ...others]) {
    if (number === LATEST || lambda.versions.some((version) => String(version.number) === number)) continue
    throw functionNotFound(call, name, number.slice(0, 128))
  }
  if (others.length > 1) {
    throw refusal(
      'Number of items in AdditionalVersionWeights cannot be greater than 1. Only one item is allowed',
    )
  }
  if (others.length > 0 && [functionVersion, ...others].includes(LATEST)) {
    throw refusal('$LATEST is not supported for an alias pointing to more than 1 version')
  }
  if (others.includes(functionVersion)) {
    throw refusal(
      `Invalid function version ${functionVersion}. Function version ${functionVersion} is already included in routing configuration.`,
    )
  }
  return { ...lambda, aliases: { ...lambda.aliases, [aliasName]: alias } }
}

function describeAlias(call: Call, name: string, aliasName: string, alias: LambdaAlias): object {
  const { functionVersion, description, weights, revisionId } = alias
  return {
    AliasArn: functionArn(call, name, aliasName),
    Name: aliasName,
    FunctionVersion: functionVersion,
    Description: description,
    RevisionId: revisionId,
    ...(Object.keys(weights).length > 0 && { RoutingConfig: { AdditionalVersionWeights: weights } }),
  }
}

function refusal(message: string): ApiError {
  return new ApiError('InvalidParameterValueException', message)
}
