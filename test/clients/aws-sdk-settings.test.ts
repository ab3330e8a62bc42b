/** The unmodified AWS SDK sets what AWS keeps beside a function. */
import {
  CreateFunctionCommand,
  CreateFunctionUrlConfigCommand,
  DeleteFunctionConcurrencyCommand,
  DeleteFunctionEventInvokeConfigCommand,
  DeleteFunctionUrlConfigCommand,
  DeleteProvisionedConcurrencyConfigCommand,
  GetFunctionCommand,
  GetFunctionConcurrencyCommand,
  GetFunctionEventInvokeConfigCommand,
  GetFunctionUrlConfigCommand,
  GetProvisionedConcurrencyConfigCommand,
  InvokeCommand,
  ListFunctionEventInvokeConfigsCommand,
  ListFunctionUrlConfigsCommand,
  ListProvisionedConcurrencyConfigsCommand,
  ListTagsCommand,
  PublishVersionCommand,
  PutFunctionConcurrencyCommand,
  PutFunctionEventInvokeConfigCommand,
  PutProvisionedConcurrencyConfigCommand,
  TagResourceCommand,
  UntagResourceCommand,
  UpdateFunctionCodeCommand,
  UpdateFunctionEventInvokeConfigCommand,
  UpdateFunctionUrlConfigCommand,
} from '@aws-sdk/client-lambda'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ContainerContent } from '../../sdk/model/function.ts'
import {
  errorOf,
  newFunction,
  zipOf,
  openLambdaPlace,
  type LambdaPlace,
} from '../runtime/lambda-api-place.ts'

let place: LambdaPlace
beforeEach(async () => {
  place = await openLambdaPlace()
})
afterEach(() => place.close())

const ARN = 'arn:aws:lambda:us-east-1:000000000000:function:hello'
const create = async (name = 'hello') =>
  await place.client.send(new CreateFunctionCommand(await newFunction(name)))
const contentOf = (index: number): ContainerContent => place.started.at(index)?.content as ContainerContent

describe('concurrency', () => {
  beforeEach(() => create())
  const FunctionName = 'hello'

  test('reserved concurrency is the quota of the policy, from wherever it was set', async () => {
    const put = new PutFunctionConcurrencyCommand({ FunctionName, ReservedConcurrentExecutions: 5 })
    expect(await place.client.send(put)).toMatchObject({ ReservedConcurrentExecutions: 5 })
    expect(place.ports.registry.head.functions['hello']?.policy).toMatchObject({ quota: 5 })
    const { Concurrency } = await place.client.send(new GetFunctionCommand({ FunctionName }))
    expect(Concurrency?.ReservedConcurrentExecutions).toBe(5)
    await place.client.send(new DeleteFunctionConcurrencyCommand({ FunctionName }))
    const got = await place.client.send(new GetFunctionConcurrencyCommand({ FunctionName }))
    expect(got.ReservedConcurrentExecutions).toBeUndefined()
    expect(place.ports.registry.head.functions['hello']?.policy).not.toHaveProperty('quota')
  })

  test('reserved concurrency of 0 throttles every call, until it is deleted', async () => {
    await place.client.send(
      new PutFunctionConcurrencyCommand({ FunctionName, ReservedConcurrentExecutions: 0 }),
    )
    expect(await errorOf(place.client.send(new InvokeCommand({ FunctionName })))).toMatchObject({
      name: 'TooManyRequestsException',
      status: 429,
      Reason: 'ReservedFunctionConcurrentInvocationLimitExceeded',
      retryAfterSeconds: '1',
    })
    expect(place.invoked).toEqual([])
    const dry = await place.client.send(new InvokeCommand({ FunctionName, InvocationType: 'DryRun' }))
    expect(dry.StatusCode).toBe(204)
    await place.client.send(new DeleteFunctionConcurrencyCommand({ FunctionName }))
    expect((await place.client.send(new InvokeCommand({ FunctionName }))).StatusCode).toBe(200)
  })

  test('provisioned concurrency is the minimum of the policy, and ready when the instances are there', async () => {
    await place.client.send(new PublishVersionCommand({ FunctionName }))
    const config = { FunctionName, Qualifier: '1' }
    const put = new PutProvisionedConcurrencyConfigCommand({ ...config, ProvisionedConcurrentExecutions: 2 })
    expect(await place.client.send(put)).toMatchObject({
      RequestedProvisionedConcurrentExecutions: 2,
      AvailableProvisionedConcurrentExecutions: 0,
      Status: 'IN_PROGRESS',
    })
    expect(place.ports.registry.head.functions['hello']?.policy).toMatchObject({ min: 2 })
    const versionId = place.started[0]?.id ?? ''
    place.node.scaling.push({
      functionName: 'hello',
      versionId,
      desired: 2,
      running: 2,
      paused: 0,
      starting: 0,
      reason: '',
      stableConcurrency: 0,
      panicConcurrency: 0,
      panicking: false,
    })
    expect(await place.client.send(new GetProvisionedConcurrencyConfigCommand(config))).toMatchObject({
      AllocatedProvisionedConcurrentExecutions: 2,
      Status: 'READY',
    })
    const list = await place.client.send(new ListProvisionedConcurrencyConfigsCommand({ FunctionName }))
    expect(list.ProvisionedConcurrencyConfigs).toMatchObject([{ FunctionArn: `${ARN}:1`, Status: 'READY' }])
    await place.client.send(new DeleteProvisionedConcurrencyConfigCommand(config))
    expect(
      await errorOf(place.client.send(new GetProvisionedConcurrencyConfigCommand(config))),
    ).toMatchObject({
      name: 'ProvisionedConcurrencyConfigNotFoundException',
      status: 404,
    })
    expect(place.ports.registry.head.functions['hello']?.policy).not.toHaveProperty('min')
  })

  test('instances are provisioned neither for $LATEST nor for a version that does not serve', async () => {
    const put = (Qualifier: string) =>
      place.client.send(
        new PutProvisionedConcurrencyConfigCommand({
          FunctionName,
          Qualifier,
          ProvisionedConcurrentExecutions: 1,
        }),
      )
    expect(await errorOf(put('$LATEST'))).toMatchObject({ name: 'InvalidParameterValueException' })
    await place.client.send(new PublishVersionCommand({ FunctionName }))
    const ZipFile = await zipOf({ 'index.mjs': '2' })
    await place.client.send(new UpdateFunctionCodeCommand({ FunctionName, ZipFile }))
    expect(await errorOf(put('1'))).toMatchObject({
      name: 'InvalidParameterValueException',
      message: expect.stringContaining('not what the function serves'),
    })
  })
})

describe('function URLs', () => {
  beforeEach(() => create())
  const FunctionName = 'hello'
  const createUrl = (fields: object = {}) =>
    place.client.send(new CreateFunctionUrlConfigCommand({ FunctionName, AuthType: 'NONE', ...fields }))

  test('a URL is the host of the function, and streaming is a setting of its version', async () => {
    expect(await createUrl()).toMatchObject({
      FunctionUrl: 'http://hello.localhost:8080/',
      FunctionArn: ARN,
      AuthType: 'NONE',
      InvokeMode: 'BUFFERED',
    })
    expect(place.ports.registry.head.functions['hello']?.baseDomainHost).toBe(true)
    expect(place.started).toHaveLength(1)
    const update = new UpdateFunctionUrlConfigCommand({ FunctionName, InvokeMode: 'RESPONSE_STREAM' })
    expect(await place.client.send(update)).toMatchObject({ InvokeMode: 'RESPONSE_STREAM' })
    expect(contentOf(-1).settings.responseStreaming).toBe(true)
    const { FunctionUrlConfigs } = await place.client.send(
      new ListFunctionUrlConfigsCommand({ FunctionName }),
    )
    expect(FunctionUrlConfigs).toMatchObject([{ InvokeMode: 'RESPONSE_STREAM' }])
    await place.client.send(new DeleteFunctionUrlConfigCommand({ FunctionName }))
    expect(place.ports.registry.head.functions['hello']?.baseDomainHost).toBe(false)
    expect(await errorOf(place.client.send(new GetFunctionUrlConfigCommand({ FunctionName })))).toMatchObject(
      {
        name: 'ResourceNotFoundException',
      },
    )
  })

  test('a second URL is a conflict; signatures and CORS are refused by name', async () => {
    expect(await errorOf(createUrl({ AuthType: 'AWS_IAM' }))).toMatchObject({
      name: 'InvalidParameterValueException',
      message: expect.stringContaining('AWS_IAM is not supported'),
    })
    expect(await errorOf(createUrl({ Cors: { AllowOrigins: ['*'] } }))).toMatchObject({
      message: expect.stringContaining('Cors is not supported'),
    })
    expect(await errorOf(createUrl({ Qualifier: 'live' }))).toMatchObject({
      name: 'InvalidParameterValueException',
    })
    await createUrl()
    expect(await errorOf(createUrl())).toMatchObject({ name: 'ResourceConflictException' })
  })
})

describe('event invoke config', () => {
  const FunctionName = 'hello'
  test('says how often and how long an event is tried', async () => {
    await create()
    const get = new GetFunctionEventInvokeConfigCommand({ FunctionName })
    expect(await errorOf(place.client.send(get))).toMatchObject({ name: 'ResourceNotFoundException' })
    const put = new PutFunctionEventInvokeConfigCommand({ FunctionName, MaximumRetryAttempts: 0 })
    expect(await place.client.send(put)).toMatchObject({
      MaximumRetryAttempts: 0,
      MaximumEventAgeInSeconds: 21_600,
    })
    const update = new UpdateFunctionEventInvokeConfigCommand({ FunctionName, MaximumEventAgeInSeconds: 60 })
    const updated = await place.client.send(update)
    expect(updated).toMatchObject({ MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60 })
    expect(updated.LastModified).toBeInstanceOf(Date)
    expect(place.ports.registry.head.functions['hello']?.asyncInvoke).toEqual({ retriesMax: 0, maxAgeS: 60 })
    const list = await place.client.send(new ListFunctionEventInvokeConfigsCommand({ FunctionName }))
    expect(list.FunctionEventInvokeConfigs).toHaveLength(1)
    await place.client.send(new DeleteFunctionEventInvokeConfigCommand({ FunctionName }))
    expect(place.ports.registry.head.functions['hello']?.asyncInvoke).toBeUndefined()
  })

  test('destinations and impossible numbers are refused', async () => {
    await create()
    const put = (fields: object) =>
      place.client.send(new PutFunctionEventInvokeConfigCommand({ FunctionName, ...fields }))
    expect(await errorOf(put({ MaximumRetryAttempts: 3 }))).toMatchObject({ name: 'ValidationException' })
    expect(await errorOf(put({ DestinationConfig: { OnFailure: { Destination: 'arn:x' } } }))).toMatchObject({
      name: 'InvalidParameterValueException',
      message: expect.stringContaining('DestinationConfig'),
    })
    await put({ DestinationConfig: { OnFailure: {} }, MaximumRetryAttempts: 1 })
  })
})

describe('tags', () => {
  test('are set, listed and removed by ARN; isola:egress gives and takes the network', async () => {
    await create()
    const Resource = ARN
    await place.client.send(new TagResourceCommand({ Resource, Tags: { a: '1', b: '2' } }))
    expect(place.started).toHaveLength(1)
    await place.client.send(new UntagResourceCommand({ Resource, TagKeys: ['a', 'c'] }))
    expect((await place.client.send(new ListTagsCommand({ Resource }))).Tags).toEqual({ b: '2' })
    await place.client.send(new TagResourceCommand({ Resource, Tags: { 'isola:egress': 'true' } }))
    expect(contentOf(-1).settings.egress).toBe(true)
    await place.client.send(new UntagResourceCommand({ Resource, TagKeys: ['isola:egress'] }))
    expect(contentOf(-1).settings.egress).toBe(false)
    const many = Object.fromEntries(Array.from({ length: 51 }, (_, index) => [`k${index}`, 'v']))
    expect(await errorOf(place.client.send(new TagResourceCommand({ Resource, Tags: many })))).toMatchObject({
      name: 'InvalidParameterValueException',
    })
  })
})
