/** How events that are worked on later are tried again: `FunctionRecord.asyncInvoke` by AWS's names. */
import { z } from 'zod'
import { DEFAULT_ASYNC_SETTINGS, type AsyncSettings, type FunctionRecord } from '../../sdk/model/function.ts'
import { ApiError } from './api-error.ts'
import { noContent, type Call } from './call.ts'
import { readFields, whole } from './fields.ts'
import { functionArn, LATEST, unqualifiedName } from './function-name.ts'
import { changeLambda, findLambdaFunction, type LambdaFunction } from './lambda-function.ts'

const configFields = z.object({
  MaximumRetryAttempts: whole(0, 2).optional(),
  MaximumEventAgeInSeconds: whole(60, 21_600).optional(),
})

export const putEventInvokeConfig = (call: Call): Promise<Response> => setConfig(call, 'replace')
export const updateEventInvokeConfig = (call: Call): Promise<Response> => setConfig(call, 'merge')

export async function getEventInvokeConfig(call: Call): Promise<Response> {
  return Response.json(describe(call, await findConfigured(call)))
}

export async function listEventInvokeConfigs(call: Call): Promise<Response> {
  const fn = await findLambdaFunction(call, unqualifiedName(call))
  const configs = fn.record.asyncInvoke === undefined ? [] : [describe(call, fn)]
  return Response.json({ FunctionEventInvokeConfigs: configs, NextMarker: null })
}

export async function deleteEventInvokeConfig(call: Call): Promise<Response> {
  const { record } = await findConfigured(call)
  await changeLambda(
    call,
    record.name,
    ({ eventInvokeModified: _deleted, ...lambda }) => lambda,
    ({ asyncInvoke: _removed, ...record }) => record,
  )
  return noContent()
}

async function setConfig(call: Call, how: 'replace' | 'merge'): Promise<Response> {
  const name = unqualifiedName(call)
  const { MaximumRetryAttempts, MaximumEventAgeInSeconds } = readFields(call.body, configFields)
  await (how === 'merge' ? findConfigured(call) : findLambdaFunction(call, name))
  const changed: Partial<AsyncSettings> = {
    ...(MaximumRetryAttempts !== undefined && { retriesMax: MaximumRetryAttempts }),
    ...(MaximumEventAgeInSeconds !== undefined && { maxAgeS: MaximumEventAgeInSeconds }),
  }
  await changeLambda(
    call,
    name,
    (lambda) => ({ ...lambda, eventInvokeModified: new Date().toISOString() }),
    (record): FunctionRecord => ({
      ...record,
      asyncInvoke: how === 'merge' ? { ...record.asyncInvoke, ...changed } : changed,
    }),
  )
  return Response.json(describe(call, await findLambdaFunction(call, name)))
}

async function findConfigured(call: Call): Promise<LambdaFunction> {
  const name = unqualifiedName(call)
  const fn = await findLambdaFunction(call, name)
  if (fn.record.asyncInvoke !== undefined) return fn
  throw new ApiError(
    'ResourceNotFoundException',
    `The function ${functionArn(call, name, LATEST)} doesn't have an EventInvokeConfig`,
  )
}

function describe(call: Call, { record, lambda }: LambdaFunction): object {
  const { retriesMax, maxAgeS } = { ...DEFAULT_ASYNC_SETTINGS, ...record.asyncInvoke }
  return {
    FunctionArn: functionArn(call, record.name, LATEST),
    LastModified: Date.parse(lambda.eventInvokeModified ?? lambda.lastModified) / 1_000,
    MaximumRetryAttempts: retriesMax,
    MaximumEventAgeInSeconds: maxAgeS,
    DestinationConfig: { OnSuccess: {}, OnFailure: {} },
  }
}
