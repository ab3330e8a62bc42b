/**
 * A function URL is the function's host under the base domain: with one the host answers, without it does not. Whether
 * responses stream is part of a version, so a change of `InvokeMode` is a deploy.
 */
import { z } from 'zod'
import type { FunctionRecord } from '../../sdk/model/function.ts'
import type { LambdaUrl } from '../../sdk/model/lambda.ts'
import { functionUrls } from '../control/urls.ts'
import { ApiError } from './api-error.ts'
import { noContent, type Call } from './call.ts'
import { redeployContent } from './redeploy-content.ts'
import { readFields } from './fields.ts'
import { functionArn, unqualifiedName } from './function-name.ts'
import { changeLambda, findLambdaFunction, touched, type LambdaFunction } from './lambda-function.ts'

const urlFields = {
  AuthType: z.enum(['NONE', 'AWS_IAM']).optional(),
  InvokeMode: z.enum(['BUFFERED', 'RESPONSE_STREAM']).optional(),
}

const updateUrlFields = z.object(urlFields)
const createUrlFields = z.object({ ...urlFields, AuthType: z.enum(['NONE', 'AWS_IAM']) })

export async function createFunctionUrl(call: Call): Promise<Response> {
  const name = unqualifiedName(call)
  const fields = readFields(call.body, createUrlFields)
  const fn = await findLambdaFunction(call, name)
  if (fn.lambda.url !== undefined) {
    throw new ApiError(
      'ResourceConflictException',
      `Failed to create function url config for [functionArn = ${functionArn(call, name)}]. Error message:  FunctionUrlConfig exists for this Lambda function`,
    )
  }
  const now = new Date().toISOString()
  return await setUrl(call, fn, {
    status: 201,
    url: { authType: 'NONE', invokeMode: 'BUFFERED', createdAt: now, lastModified: now },
    fields,
  })
}

export async function updateFunctionUrl(call: Call): Promise<Response> {
  const name = unqualifiedName(call)
  const fields = readFields(call.body, updateUrlFields)
  const { fn, url } = await findUrl(call, name)
  return await setUrl(call, fn, {
    status: 200,
    url: { ...url, lastModified: new Date().toISOString() },
    fields,
  })
}

export async function getFunctionUrl(call: Call): Promise<Response> {
  const { fn, url } = await findUrl(call, unqualifiedName(call))
  return Response.json(describe(call, fn.record, url))
}

export async function listFunctionUrls(call: Call): Promise<Response> {
  const { record, lambda } = await findLambdaFunction(call, unqualifiedName(call))
  const configs = lambda.url === undefined ? [] : [describe(call, record, lambda.url)]
  return Response.json({ FunctionUrlConfigs: configs, NextMarker: null })
}

export async function deleteFunctionUrl(call: Call): Promise<Response> {
  const name = unqualifiedName(call)
  await findUrl(call, name)
  await changeLambda(
    call,
    name,
    ({ url: _deleted, ...lambda }) => touched(lambda),
    (record) => ({ ...record, baseDomainHost: false }),
  )
  return noContent()
}

async function setUrl(
  call: Call,
  fn: LambdaFunction,
  change: {
    readonly status: number
    readonly url: LambdaUrl
    readonly fields: z.infer<typeof updateUrlFields>
  },
): Promise<Response> {
  const { status, fields } = change
  const { name } = fn.record
  if (fields.AuthType === 'AWS_IAM') {
    throw new ApiError(
      'InvalidParameterValueException',
      'AuthType AWS_IAM is not supported by isola: function URLs check no signatures. Use NONE and check callers in the function, or call it by Invoke.',
    )
  }
  const url: LambdaUrl = { ...change.url, invokeMode: fields.InvokeMode ?? change.url.invokeMode }
  const { content } = fn.latest
  const responseStreaming = url.invokeMode === 'RESPONSE_STREAM'
  await call.progress.run({
    functionName: name,
    arn: functionArn(call, name),
    change: { type: 'update', configuration: {} },
    async work() {
      if (content.settings.responseStreaming !== responseStreaming) {
        const settings = { ...content.settings, responseStreaming }
        await redeployContent(call, fn, { ...content, settings })
      }
      await changeLambda(
        call,
        name,
        (lambda) => touched({ ...lambda, url }),
        (record) => ({ ...record, baseDomainHost: true }),
      )
    },
  })
  return Response.json(describe(call, { ...fn.record, baseDomainHost: true }, url), { status })
}

async function findUrl(
  call: Call,
  name: string,
): Promise<{ readonly fn: LambdaFunction; readonly url: LambdaUrl }> {
  const fn = await findLambdaFunction(call, name)
  const { url } = fn.lambda
  if (url !== undefined) return { fn, url }
  throw new ApiError('ResourceNotFoundException', 'The resource you requested does not exist.')
}

function describe(call: Call, record: FunctionRecord, url: LambdaUrl): object {
  const { baseDomain } = call.ports
  // Its own host comes first; routes that the function has besides are no concern of AWS's.
  const [address] = functionUrls(record, { baseDomain, port: call.ports.httpPort() })
  return {
    FunctionUrl: address ?? '',
    FunctionArn: functionArn(call, record.name),
    AuthType: url.authType,
    InvokeMode: url.invokeMode,
    CreationTime: url.createdAt,
    LastModifiedTime: url.lastModified,
  }
}
