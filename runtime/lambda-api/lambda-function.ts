/**
 * A function as this API sees it. Every container function of protocol `lambda` is one, however it was deployed:
 * `$LATEST` is what its deployment serves, and what AWS has besides lies in `FunctionRecord.lambda`.
 */
import { createHash, randomUUID } from 'node:crypto'
import { isContainerVersion, type ContainerVersion, type FunctionRecord } from '../../sdk/model/function.ts'
import type { LambdaRecord } from '../../sdk/model/lambda.ts'
import { findFunction } from '../control/find-function.ts'
import { untilLive } from '../control/go-live.ts'
import { swapFunction } from '../control/swap-function.ts'
import { ApiError } from './api-error.ts'
import type { Call } from './call.ts'
import { functionArn, functionNotFound, LATEST } from './function-name.ts'

export interface LambdaFunction {
  readonly record: FunctionRecord
  readonly lambda: LambdaRecord
  /** That which most of the traffic goes to. */
  readonly latest: ContainerVersion
}

type Where = Pick<Call, 'ports' | 'region'>

/**
 * Throws `ResourceNotFoundException`, also for a function that is none of AWS's kind. `isFresh: false` for a call of the
 * function: what the node knows is what its router serves, and the bucket may be far away.
 */
export async function findLambdaFunction(
  where: Where,
  name: string,
  { isFresh = true }: { readonly isFresh?: boolean } = {},
): Promise<LambdaFunction> {
  const { registry } = where.ports
  const { functions } = isFresh ? await registry.refresh() : registry.head
  const record = Object.hasOwn(functions, name) ? functions[name] : undefined
  if (record === undefined) throw functionNotFound(where, name)
  const found = await asLambdaFunction(where, record)
  if (found !== undefined) return found
  throw new ApiError(
    'ResourceNotFoundException',
    `Function not found: ${functionArn(where, name)}. "${name}" is a function that answers HTTP itself (kind "${record.kind}"), and takes no events.`,
  )
}

export async function asLambdaFunction(
  { ports }: Where,
  record: FunctionRecord,
): Promise<LambdaFunction | undefined> {
  if (record.kind !== 'container') return undefined
  const [largest] = record.deployment.shares.toSorted((a, b) => b.percent - a.percent)
  const latest = await ports.registry.getVersion(record.name, largest?.versionId ?? '')
  if (latest === undefined || !isContainerVersion(latest) || latest.content.protocol !== 'lambda') {
    return undefined
  }
  return { record, lambda: lambdaOf(record), latest }
}

/** With what a function has that this API has never changed. */
export function lambdaOf({ lambda, deployment }: FunctionRecord): LambdaRecord {
  return (
    lambda ?? {
      role: '',
      description: '',
      tags: {},
      revisionId: deployment.id,
      lastModified: deployment.createdAt,
      versions: [],
      nextVersion: 1,
      aliases: {},
    }
  )
}

/**
 * Changes what this API keeps of a function, and what else of its record belongs to it. Resolves when the router knows it
 * too: a version that was just published can be called. Throws `ResourceNotFoundException`.
 */
export async function changeLambda(
  { ports, region }: Where,
  name: string,
  change: (lambda: LambdaRecord, record: FunctionRecord) => LambdaRecord,
  andRecord: (record: FunctionRecord) => FunctionRecord = (record) => record,
): Promise<LambdaRecord> {
  const { head, record } = await swapFunction(ports, (head) => {
    if (!Object.hasOwn(head.functions, name)) throw functionNotFound({ region }, name)
    const record = findFunction(head, name)
    const before = lambdaOf(record)
    const lambda = change(before, record)
    return lambda === before ? record : { ...andRecord(record), lambda }
  })
  await untilLive(ports, head)
  return lambdaOf(record)
}

/** Of `$LATEST`: every change makes it new. */
export function touched(lambda: LambdaRecord): LambdaRecord {
  return { ...lambda, revisionId: randomUUID(), lastModified: new Date().toISOString() }
}

/** Also a deploy or a rollback that went past this API is a new revision. */
export function latestRevisionId({ lambda, record }: Pick<LambdaFunction, 'lambda' | 'record'>): string {
  return uuidOf(`${lambda.revisionId} ${record.deployment.id}`)
}

/** The same text gives the same id. */
export function uuidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex')
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `4${hex.slice(13, 16)}`,
    `8${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ].join('-')
}

/** Throws `PreconditionFailedException`. */
export function checkRevision(asked: string | null | undefined, actual: string): void {
  if (!asked || asked === actual) return
  throw new ApiError(
    'PreconditionFailedException',
    `The RevisionId provided does not match the latest RevisionId. Call the GetFunction/GetAlias API to retrieve the latest RevisionId: it is ${actual}, not ${asked.slice(0, 100)}.`,
  )
}

/** What a qualifier stands for. */
export type Target =
  | { readonly type: 'latest' }
  | { readonly type: 'version'; readonly number: string; readonly versionId: string }
  | { readonly type: 'alias'; readonly alias: string; readonly number: string; readonly versionId?: string }

/** An alias with weights is one of its versions, by `random` (0 ≤ it < 1). Throws `ResourceNotFoundException`. */
export function targetOf(
  where: Where,
  { record, lambda }: LambdaFunction,
  options: { readonly qualifier: string | undefined; readonly random: number },
): Target {
  const { qualifier, random } = options
  if (qualifier === undefined || qualifier === LATEST) return { type: 'latest' }
  const alias = Object.hasOwn(lambda.aliases, qualifier) ? lambda.aliases[qualifier] : undefined
  const number = alias === undefined ? qualifier : pickVersion(alias, random)
  if (alias !== undefined && number === LATEST) return { type: 'alias', alias: qualifier, number }
  const version = lambda.versions.find((version) => String(version.number) === number)
  if (version === undefined) throw functionNotFound(where, record.name, qualifier)
  const { versionId } = version
  return alias === undefined
    ? { type: 'version', number, versionId }
    : { type: 'alias', alias: qualifier, number, versionId }
}

function pickVersion(alias: LambdaRecord['aliases'][string], random: number): string {
  let below = 0
  for (const [number, weight] of Object.entries(alias.weights)) {
    below += weight
    if (random < below) return number
  }
  return alias.functionVersion
}
