/**
 * Provisioned concurrency is the policy's `min`: instances that are kept. It is for what the deployment serves, so the
 * version or alias it is asked for must be that; there is one of a function.
 */
import { z } from 'zod'
import { POLICY_BOUNDS } from '../../sdk/model/policy.ts'
import { setPolicy } from '../control/policy.ts'
import { ApiError } from './api-error.ts'
import { actorOf, noContent, type Call } from './call.ts'
import { readFields, whole } from './fields.ts'
import { functionArn, LATEST, referenceOf } from './function-name.ts'
import { changeLambda, findLambdaFunction, targetOf, type LambdaFunction } from './lambda-function.ts'

const provisionedFields = z.object({ ProvisionedConcurrentExecutions: whole(1, POLICY_BOUNDS.min[1]) })

export async function putProvisionedConcurrency(call: Call): Promise<Response> {
  const { name, qualifier } = qualifiedReference(call)
  const { ProvisionedConcurrentExecutions: min } = readFields(call.body, provisionedFields)
  checkServes(call, await findLambdaFunction(call, name), qualifier)
  await setPolicy(call.ports, name, { patch: { min }, by: actorOf(call) })
  await changeLambda(call, name, (lambda) => ({
    ...lambda,
    provisioned: { qualifier, lastModified: new Date().toISOString() },
  }))
  return Response.json(describe(call, await findLambdaFunction(call, name)), { status: 202 })
}

export async function getProvisionedConcurrency(call: Call): Promise<Response> {
  if (call.url.searchParams.get('List') === 'ALL') return await listProvisionedConcurrency(call)
  const { name, qualifier } = qualifiedReference(call)
  const fn = await findLambdaFunction(call, name)
  targetOf(call, fn, { qualifier, random: 1 })
  if (fn.lambda.provisioned?.qualifier === qualifier) return Response.json(describe(call, fn))
  throw new ApiError(
    'ProvisionedConcurrencyConfigNotFoundException',
    'No Provisioned Concurrency Config found for this function',
  )
}

export async function deleteProvisionedConcurrency(call: Call): Promise<Response> {
  const { name, qualifier } = qualifiedReference(call)
  const fn = await findLambdaFunction(call, name)
  targetOf(call, fn, { qualifier, random: 1 })
  if (fn.lambda.provisioned?.qualifier !== qualifier) return noContent()
  await setPolicy(call.ports, name, { patch: { min: null }, by: actorOf(call) })
  await changeLambda(call, name, ({ provisioned: _deleted, ...lambda }) => lambda)
  return noContent()
}

async function listProvisionedConcurrency(call: Call): Promise<Response> {
  const { name } = referenceOf(call)
  const fn = await findLambdaFunction(call, name)
  const { provisioned } = fn.lambda
  const configs =
    provisioned === undefined
      ? []
      : [{ FunctionArn: functionArn(call, name, provisioned.qualifier), ...describe(call, fn) }]
  return Response.json({ ProvisionedConcurrencyConfigs: configs, NextMarker: null })
}

function qualifiedReference(call: Call): { readonly name: string; readonly qualifier: string } {
  const { name, qualifier } = referenceOf(call)
  if (qualifier !== undefined && qualifier !== LATEST) return { name, qualifier }
  throw refusal(
    'Provisioned Concurrency Configs cannot be applied to unpublished function versions: name a version or an alias (Qualifier).',
  )
}

function checkServes(call: Call, fn: LambdaFunction, qualifier: string): void {
  const target = targetOf(call, fn, { qualifier, random: 1 })
  const { name, deployment } = fn.record
  const serves = deployment.shares.some(
    ({ versionId }) =>
      target.type === 'latest' || target.versionId === undefined || target.versionId === versionId,
  )
  if (serves) return
  throw refusal(
    `"${qualifier}" of "${name}" is not what the function serves: instances are kept for that alone. Publish the current version and name it, or roll back to this one (isola rollback ${name}).`,
  )
}

function describe(call: Call, fn: LambdaFunction): object {
  const requested = fn.record.policy.min ?? 0
  const served = new Set(fn.record.deployment.shares.map(({ versionId }) => versionId))
  const there = call.ports
    .status()
    .scaling.filter(({ functionName, versionId }) => functionName === fn.record.name && served.has(versionId))
    .reduce((sum, { running, paused }) => sum + running + paused, 0)
  const available = Math.min(there, requested)
  return {
    RequestedProvisionedConcurrentExecutions: requested,
    AllocatedProvisionedConcurrentExecutions: available,
    AvailableProvisionedConcurrentExecutions: available,
    Status: available < requested ? 'IN_PROGRESS' : 'READY',
    LastModified: fn.lambda.provisioned?.lastModified.replace('Z', '+0000'),
  }
}

function refusal(message: string): ApiError {
  return new ApiError('InvalidParameterValueException', message)
}
