/**
 * Reserved concurrency is the policy's `quota`, whoever sets it. 0 there means no bound and here means nothing at all, so
 * that is kept beside it, and this API lets nothing through.
 */
import { z } from 'zod'
import { POLICY_BOUNDS } from '../../sdk/model/policy.ts'
import { setPolicy } from '../control/policy.ts'
import { actorOf, noContent, type Call } from './call.ts'
import { readFields, whole } from './fields.ts'
import { unqualifiedName } from './function-name.ts'
import { changeLambda, findLambdaFunction, type LambdaFunction } from './lambda-function.ts'

const concurrencyFields = z.object({ ReservedConcurrentExecutions: whole(0, POLICY_BOUNDS.quota[1]) })

/** `undefined`: none is set. */
export function reservedConcurrency({ lambda, record }: LambdaFunction): number | undefined {
  if (lambda.reservedConcurrency === 0) return 0
  const { quota } = record.policy
  return quota === undefined || quota === 0 ? undefined : quota
}

export async function putFunctionConcurrency(call: Call): Promise<Response> {
  const name = unqualifiedName(call)
  const { ReservedConcurrentExecutions: reserved } = readFields(call.body, concurrencyFields)
  await findLambdaFunction(call, name)
  await setReserved(call, name, reserved)
  return Response.json({ ReservedConcurrentExecutions: reserved })
}

export async function getFunctionConcurrency(call: Call): Promise<Response> {
  const reserved = reservedConcurrency(await findLambdaFunction(call, unqualifiedName(call)))
  return Response.json(reserved === undefined ? {} : { ReservedConcurrentExecutions: reserved })
}

export async function deleteFunctionConcurrency(call: Call): Promise<Response> {
  const name = unqualifiedName(call)
  await findLambdaFunction(call, name)
  await setReserved(call, name, undefined)
  return noContent()
}

async function setReserved(call: Call, name: string, reserved: number | undefined): Promise<void> {
  await setPolicy(call.ports, name, { patch: { quota: reserved || null }, by: actorOf(call) })
  await changeLambda(call, name, (lambda) => {
    if ((lambda.reservedConcurrency === 0) === (reserved === 0)) return lambda
    const { reservedConcurrency: _before, ...others } = lambda
    return reserved === 0 ? { ...others, reservedConcurrency: 0 } : others
  })
}
