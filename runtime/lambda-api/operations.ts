/** Every operation of AWS's API by method and path: those isola has, and the names of those it has not. */
import { CONTAINER_LIMITS, CONTROL_LIMITS, LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { createAlias, deleteAlias, getAlias, listAliases, updateAlias } from './aliases.ts'
import type { ApiErrorName } from './api-error.ts'
import type { Operation } from './call.ts'
import { createFunction, updateFunctionCode, updateFunctionConfiguration } from './change-function.ts'
import { deleteFunctionConcurrency, getFunctionConcurrency, putFunctionConcurrency } from './concurrency.ts'
import {
  deleteEventInvokeConfig,
  getEventInvokeConfig,
  listEventInvokeConfigs,
  putEventInvokeConfig,
  updateEventInvokeConfig,
} from './event-invoke-config.ts'
import {
  createFunctionUrl,
  deleteFunctionUrl,
  getFunctionUrl,
  listFunctionUrls,
  updateFunctionUrl,
} from './function-url.ts'
import { invoke, invokeAsync } from './invoke.ts'
import { invokeWithResponseStream } from './invoke-with-stream.ts'
import {
  deleteProvisionedConcurrency,
  getProvisionedConcurrency,
  putProvisionedConcurrency,
} from './provisioned.ts'
import { listVersionsByFunction, publishVersion } from './publish.ts'
import {
  deleteFunction,
  getAccountSettings,
  getArchive,
  getFunction,
  getFunctionConfiguration,
  listFunctions,
} from './read-function.ts'
import { listTags, tagResource, untagResource } from './tags.ts'
import { UNSUPPORTED } from './unsupported.ts'

export interface OperationEntry {
  /** As AWS names it. */
  readonly name: string
  /** Absent: isola has none. */
  readonly run?: Operation
  readonly bodyBytesMax: number
  readonly tooLarge: ApiErrorName
}

const FUNCTION = '/2015-03-31/functions/{FunctionName}'
const URL_CONFIG = '/2021-10-31/functions/{FunctionName}/url'
const EVENT_CONFIG = '/2019-09-25/functions/{FunctionName}/event-invoke-config'
const PROVISIONED = '/2019-09-30/functions/{FunctionName}/provisioned-concurrency'
const CONCURRENCY = '/2017-10-31/functions/{FunctionName}/concurrency'
const TAGS = '/2017-03-31/tags/{Resource}'

const SUPPORTED: Readonly<Record<string, readonly [string, Operation]>> = {
  'POST /2015-03-31/functions': ['CreateFunction', createFunction],
  'GET /2015-03-31/functions': ['ListFunctions', listFunctions],
  [`GET ${FUNCTION}`]: ['GetFunction', getFunction],
  [`DELETE ${FUNCTION}`]: ['DeleteFunction', deleteFunction],
  [`GET ${FUNCTION}/configuration`]: ['GetFunctionConfiguration', getFunctionConfiguration],
  [`PUT ${FUNCTION}/configuration`]: ['UpdateFunctionConfiguration', updateFunctionConfiguration],
  [`PUT ${FUNCTION}/code`]: ['UpdateFunctionCode', updateFunctionCode],
  // Not AWS's: where `Code.Location` points.
  [`GET ${FUNCTION}/code`]: ['GetFunctionArchive', getArchive],
  [`POST ${FUNCTION}/versions`]: ['PublishVersion', publishVersion],
  [`GET ${FUNCTION}/versions`]: ['ListVersionsByFunction', listVersionsByFunction],
  [`POST ${FUNCTION}/aliases`]: ['CreateAlias', createAlias],
  [`GET ${FUNCTION}/aliases`]: ['ListAliases', listAliases],
  [`GET ${FUNCTION}/aliases/{Name}`]: ['GetAlias', getAlias],
  [`PUT ${FUNCTION}/aliases/{Name}`]: ['UpdateAlias', updateAlias],
  [`DELETE ${FUNCTION}/aliases/{Name}`]: ['DeleteAlias', deleteAlias],
  [`POST ${FUNCTION}/invocations`]: ['Invoke', invoke],
  'POST /2014-11-13/functions/{FunctionName}/invoke-async': ['InvokeAsync', invokeAsync],
  'POST /2021-11-15/functions/{FunctionName}/response-streaming-invocations': [
    'InvokeWithResponseStream',
    invokeWithResponseStream,
  ],
  [`PUT ${CONCURRENCY}`]: ['PutFunctionConcurrency', putFunctionConcurrency],
  [`DELETE ${CONCURRENCY}`]: ['DeleteFunctionConcurrency', deleteFunctionConcurrency],
  'GET /2019-09-30/functions/{FunctionName}/concurrency': ['GetFunctionConcurrency', getFunctionConcurrency],
  [`PUT ${PROVISIONED}`]: ['PutProvisionedConcurrencyConfig', putProvisionedConcurrency],
  // With `?List=ALL` it is ListProvisionedConcurrencyConfigs.
  [`GET ${PROVISIONED}`]: ['GetProvisionedConcurrencyConfig', getProvisionedConcurrency],
  [`DELETE ${PROVISIONED}`]: ['DeleteProvisionedConcurrencyConfig', deleteProvisionedConcurrency],
  [`POST ${URL_CONFIG}`]: ['CreateFunctionUrlConfig', createFunctionUrl],
  [`GET ${URL_CONFIG}`]: ['GetFunctionUrlConfig', getFunctionUrl],
  [`PUT ${URL_CONFIG}`]: ['UpdateFunctionUrlConfig', updateFunctionUrl],
  [`DELETE ${URL_CONFIG}`]: ['DeleteFunctionUrlConfig', deleteFunctionUrl],
  [`GET ${URL_CONFIG}s`]: ['ListFunctionUrlConfigs', listFunctionUrls],
  [`PUT ${EVENT_CONFIG}`]: ['PutFunctionEventInvokeConfig', putEventInvokeConfig],
  [`POST ${EVENT_CONFIG}`]: ['UpdateFunctionEventInvokeConfig', updateEventInvokeConfig],
  [`GET ${EVENT_CONFIG}`]: ['GetFunctionEventInvokeConfig', getEventInvokeConfig],
  [`DELETE ${EVENT_CONFIG}`]: ['DeleteFunctionEventInvokeConfig', deleteEventInvokeConfig],
  [`GET ${EVENT_CONFIG}/list`]: ['ListFunctionEventInvokeConfigs', listEventInvokeConfigs],
  [`GET ${TAGS}`]: ['ListTags', listTags],
  [`POST ${TAGS}`]: ['TagResource', tagResource],
  [`DELETE ${TAGS}`]: ['UntagResource', untagResource],
  'GET /2016-08-19/account-settings': ['GetAccountSettings', getAccountSettings],
}

const CODE_OPERATIONS = ['CreateFunction', 'UpdateFunctionCode']
const INVOCATIONS = ['Invoke', 'InvokeAsync', 'InvokeWithResponseStream']

interface Route {
  readonly method: string
  readonly segments: readonly string[]
  readonly entry: OperationEntry
}

const ROUTES: readonly Route[] = [
  ...Object.entries(SUPPORTED).map(([place, [name, run]]) => routeOf(place, name, run)),
  ...Object.entries(UNSUPPORTED).map(([place, name]) => routeOf(place, name)),
]

function routeOf(place: string, name: string, run?: Operation): Route {
  const [method = '', path = ''] = place.split(' ')
  const isInvocation = INVOCATIONS.includes(name)
  return {
    method,
    segments: path.split('/').slice(1),
    entry: {
      name,
      ...(run && { run }),
      bodyBytesMax: isInvocation
        ? CONTAINER_LIMITS.payloadBytesMax
        : CODE_OPERATIONS.includes(name)
          ? LAMBDA_API_LIMITS.codeRequestBytesMax
          : CONTROL_LIMITS.jsonBytesMax,
      tooLarge: isInvocation ? 'RequestTooLargeException' : 'RequestEntityTooLargeException',
    },
  }
}

export interface FoundOperation extends OperationEntry {
  readonly parameters: Readonly<Record<string, string>>
}

/** `path` as it was sent; one slash at its end counts for nothing. `undefined` where AWS has no such operation either. */
export function findOperation(method: string, path: string): FoundOperation | undefined {
  const sent = path.replace(/\/$/, '').split('/').slice(1).map(decodeSegment)
  for (const route of ROUTES) {
    if (route.method !== method) continue
    const parameters = matchSegments(route.segments, sent)
    if (parameters !== undefined) return { ...route.entry, parameters }
  }
  return undefined
}

function matchSegments(
  wanted: readonly string[],
  sent: readonly string[],
): Readonly<Record<string, string>> | undefined {
  if (wanted.length !== sent.length) return undefined
  const parameters: Record<string, string> = {}
  for (const [index, segment] of wanted.entries()) {
    const value = sent[index] ?? ''
    if (segment.startsWith('{')) {
      if (value === '') return undefined
      parameters[segment.slice(1, -1)] = value
    } else if (segment !== value) return undefined
  }
  return parameters
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    // Names have no such characters: it will be refused as it stands.
    return segment
  }
}
