/**
 * Tags are kept and mean nothing, but one: `isola:egress` is `true` for a function that shall reach the internet, which
 * no field of AWS's says. Setting or removing it is a deploy, because a version says what network it has.
 */
import { z } from 'zod'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { ApiError } from './api-error.ts'
import { noContent, type Call } from './call.ts'
import { readFields, tags as tagsField } from './fields.ts'
import { functionArn, parseFunctionReference } from './function-name.ts'
import { changeLambda, findLambdaFunction, type LambdaFunction } from './lambda-function.ts'
import { redeployContent } from './redeploy-content.ts'
import { EGRESS_TAG, wantsEgress } from './version-content.ts'

type Tags = Readonly<Record<string, string>>

const tagFields = z.object({ Tags: tagsField })

export async function listTags(call: Call): Promise<Response> {
  const { lambda } = await findTagged(call)
  return Response.json({ Tags: lambda.tags })
}

export async function tagResource(call: Call): Promise<Response> {
  const { Tags } = readFields(call.body, tagFields)
  return await changeTags(call, (tags) => ({ ...tags, ...Tags }), Object.hasOwn(Tags, EGRESS_TAG))
}

export async function untagResource(call: Call): Promise<Response> {
  const keys = call.url.searchParams.getAll('tagKeys')
  const remaining = (tags: Tags): Tags =>
    Object.fromEntries(Object.entries(tags).filter(([key]) => !keys.includes(key)))
  return await changeTags(call, remaining, keys.includes(EGRESS_TAG))
}

async function changeTags(call: Call, change: (tags: Tags) => Tags, ofEgress: boolean): Promise<Response> {
  const fn = await findTagged(call)
  const { name } = fn.record
  const changeOnce = async (): Promise<void> => {
    await changeLambda(call, name, (lambda) => ({ ...lambda, tags: checkCount(change(lambda.tags)) }))
  }
  if (!ofEgress) {
    await changeOnce()
    return noContent()
  }
  const { content } = fn.latest
  const egress = wantsEgress(checkCount(change(fn.lambda.tags)))
  await call.progress.run({
    functionName: name,
    arn: functionArn(call, name),
    change: { type: 'update', configuration: {} },
    async work() {
      if (content.settings.egress !== egress) {
        await redeployContent(call, fn, { ...content, settings: { ...content.settings, egress } })
      }
      await changeOnce()
    },
  })
  return noContent()
}

function checkCount(tags: Tags): Tags {
  const count = Object.keys(tags).length
  if (count <= LAMBDA_API_LIMITS.tagsMax) return tags
  throw new ApiError(
    'InvalidParameterValueException',
    `The function would have ${count} tags, and ${LAMBDA_API_LIMITS.tagsMax} is the most.`,
  )
}

async function findTagged(call: Call): Promise<LambdaFunction> {
  const { name, qualifier } = parseFunctionReference(call.parameters['Resource'] ?? '')
  if (qualifier === undefined) return await findLambdaFunction(call, name)
  throw new ApiError(
    'InvalidParameterValueException',
    `Tags on function aliases and versions are not supported. Please specify a function ARN: ${functionArn(call, name)}`,
  )
}
