/** PublishVersion and ListVersionsByFunction: numbers for versions of isola's. */
import { z } from 'zod'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import type { LambdaRecord, LambdaVersion } from '../../sdk/model/lambda.ts'
import { inTurns } from '../registry/in-turns.ts'
import { ApiError } from './api-error.ts'
import type { Call } from './call.ts'
import { description, readFields, text } from './fields.ts'
import { configurationOf } from './function-configuration.ts'
import { referenceOf } from './function-name.ts'
import {
  changeLambda,
  checkRevision,
  findLambdaFunction,
  latestRevisionId,
  type LambdaFunction,
  type Target,
} from './lambda-function.ts'
import { listPage, versionKey } from './list-page.ts'

const publishFields = z.object({
  CodeSha256: text.optional(),
  Description: description.optional(),
  RevisionId: text.optional(),
})

export async function publishVersion(call: Call): Promise<Response> {
  const { name } = referenceOf(call)
  const fields = readFields(call.body, publishFields)
  const fn = await findLambdaFunction(call, name)
  checkRevision(fields.RevisionId, latestRevisionId(fn))
  const { CodeSha256: actual } = await configurationOf(call, fn)
  if (fields.CodeSha256 && fields.CodeSha256 !== actual) {
    throw new ApiError(
      'InvalidParameterValueException',
      `CodeSHA256 (${fields.CodeSha256.slice(0, 100)}) is different from current CodeSHA256 in $LATEST (${String(actual)}). Please try again with the CodeSHA256 in $LATEST.`,
    )
  }
  const number = await publish(call, name, {
    ...(fields.Description !== undefined && { description: fields.Description }),
  })
  const after = await findLambdaFunction(call, name)
  return Response.json(await configurationOf(call, after, versionTarget(after.lambda, number)), {
    status: 201,
  })
}

/** Number of what `$LATEST` is; the last one again where nothing has changed since. Throws `InvalidParameterValueException`. */
export async function publish(
  call: Call,
  name: string,
  options: { readonly description?: string },
): Promise<string> {
  let number = 0
  await changeLambda(call, name, (lambda, { deployment }) => {
    const [largest] = deployment.shares.toSorted((a, b) => b.percent - a.percent)
    const versionId = largest?.versionId ?? ''
    const last = lambda.versions.at(-1)
    number = last?.versionId === versionId ? last.number : lambda.nextVersion
    if (last?.versionId === versionId) return lambda
    if (lambda.versions.length >= LAMBDA_API_LIMITS.publishedVersionsMax) {
      throw new ApiError(
        'InvalidParameterValueException',
        `"${name}" has ${lambda.versions.length} published versions, and ${LAMBDA_API_LIMITS.publishedVersionsMax} is the most: delete one (DeleteFunction with Qualifier).`,
      )
    }
    const version: LambdaVersion = {
      number,
      versionId,
      description: options.description ?? lambda.description,
      createdAt: new Date().toISOString(),
    }
    return { ...lambda, versions: [...lambda.versions, version], nextVersion: number + 1 }
  })
  return String(number)
}

export async function listVersionsByFunction(call: Call): Promise<Response> {
  const { name } = referenceOf(call)
  const fn = await findLambdaFunction(call, name)
  const published = fn.lambda.versions.map(({ number }) => ({ number }))
  const { items, next } = listPage(call, [{ number: undefined }, ...published], ({ number }) =>
    versionKey(number),
  )
  const versions = await inTurns(items, ({ number }) => configurationOf(call, fn, numberTarget(fn, number)))
  return Response.json({ Versions: versions, NextMarker: next ?? null })
}

/** `undefined`: `$LATEST`. */
export function numberTarget(fn: LambdaFunction, number: number | undefined): Target {
  return number === undefined ? { type: 'latest' } : versionTarget(fn.lambda, String(number))
}

function versionTarget(lambda: LambdaRecord, number: string): Target {
  const version = lambda.versions.find((version) => String(version.number) === number)
  return { type: 'version', number, versionId: version?.versionId ?? '' }
}
