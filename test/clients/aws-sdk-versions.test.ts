/** The unmodified AWS SDK publishes versions and names them. */
import {
  CreateAliasCommand,
  CreateFunctionCommand,
  DeleteAliasCommand,
  DeleteFunctionCommand,
  GetAliasCommand,
  GetFunctionConfigurationCommand,
  InvokeCommand,
  ListAliasesCommand,
  ListVersionsByFunctionCommand,
  PublishVersionCommand,
  UpdateAliasCommand,
  UpdateFunctionCodeCommand,
} from '@aws-sdk/client-lambda'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
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

describe('versions and aliases', () => {
  beforeEach(() => create())
  const publish = (fields: object = {}) =>
    place.client.send(new PublishVersionCommand({ FunctionName: 'hello', ...fields }))
  const change = async (text: string) => {
    const ZipFile = await zipOf({ 'index.mjs': text })
    await place.client.send(new UpdateFunctionCodeCommand({ FunctionName: 'hello', ZipFile }))
  }
  const executed = async (Qualifier: string) =>
    (await place.client.send(new InvokeCommand({ FunctionName: 'hello', Qualifier }))).ExecutedVersion

  test('publishing numbers what is current, and the same only once', async () => {
    expect(await publish({ Description: 'first' })).toMatchObject({ Version: '1', Description: 'first' })
    expect((await publish()).Version).toBe('1')
    await change('2')
    expect((await publish()).Version).toBe('2')
    const { Versions } = await place.client.send(new ListVersionsByFunctionCommand({ FunctionName: 'hello' }))
    expect(Versions?.map(({ Version, FunctionArn }) => [Version, FunctionArn])).toEqual([
      ['$LATEST', ARN],
      ['1', `${ARN}:1`],
      ['2', `${ARN}:2`],
    ])
    const [, one, two] = Versions ?? []
    expect(one?.CodeSha256).not.toBe(two?.CodeSha256)
  })

  test('a version is answered when the router can be asked for it, not before', async () => {
    const inForce = Promise.withResolvers<void>()
    const asked = Promise.withResolvers<number>()
    place.node.whenLive = (generation) => {
      asked.resolve(generation)
      return inForce.promise
    }
    let answered = false
    const published = publish().then(() => (answered = true))
    const generation = await asked.promise
    expect(place.ports.registry.head).toMatchObject({ generation })
    expect(place.ports.registry.head.functions['hello']?.lambda?.versions).toHaveLength(1)
    expect(answered).toBe(false)
    inForce.resolve()
    await published
  })

  test('publishing can be bound to the code that is expected', async () => {
    expect(await errorOf(publish({ CodeSha256: 'other' }))).toMatchObject({
      name: 'InvalidParameterValueException',
      message: expect.stringContaining('CodeSHA256 (other)'),
    })
    expect(await errorOf(publish({ RevisionId: 'other' }))).toMatchObject({
      name: 'PreconditionFailedException',
    })
  })

  test('a version is deleted alone, unless an alias is for it, and its number is not used again', async () => {
    await publish()
    await place.client.send(
      new CreateAliasCommand({ FunctionName: 'hello', Name: 'live', FunctionVersion: '1' }),
    )
    const remove = new DeleteFunctionCommand({ FunctionName: 'hello', Qualifier: '1' })
    expect(await errorOf(place.client.send(remove))).toMatchObject({
      name: 'ResourceConflictException',
      message: expect.stringContaining('"live"'),
    })
    await place.client.send(new DeleteAliasCommand({ FunctionName: 'hello', Name: 'live' }))
    await place.client.send(remove)
    expect(await errorOf(place.client.send(remove))).toMatchObject({ name: 'ResourceNotFoundException' })
    expect((await publish()).Version).toBe('2')
    const latest = new DeleteFunctionCommand({ FunctionName: 'hello', Qualifier: '$LATEST' })
    expect(await errorOf(place.client.send(latest))).toMatchObject({ name: 'InvalidParameterValueException' })
  })

  test('an alias is made, changed, listed, called and deleted', async () => {
    await publish()
    await change('2')
    await publish()
    const alias = { FunctionName: 'hello', Name: 'live' }
    const made = await place.client.send(
      new CreateAliasCommand({ ...alias, FunctionVersion: '1', Description: 'd' }),
    )
    expect(made).toMatchObject({
      AliasArn: `${ARN}:live`,
      Name: 'live',
      FunctionVersion: '1',
      Description: 'd',
    })
    expect(await executed('live')).toBe('1')
    expect(place.invoked.at(-1)).toMatchObject({
      versionId: place.started[0]?.id,
      invokedArn: `${ARN}:live`,
    })
    const updated = await place.client.send(
      new UpdateAliasCommand({ ...alias, FunctionVersion: '2', RevisionId: made.RevisionId }),
    )
    expect(updated).toMatchObject({ FunctionVersion: '2', Description: 'd' })
    expect(await executed('live')).toBe('2')
    const stale = new UpdateAliasCommand({ ...alias, FunctionVersion: '1', RevisionId: made.RevisionId })
    expect(await errorOf(place.client.send(stale))).toMatchObject({ name: 'PreconditionFailedException' })
    const { Aliases } = await place.client.send(
      new ListAliasesCommand({ FunctionName: 'hello', FunctionVersion: '2' }),
    )
    expect(Aliases?.map(({ Name }) => Name)).toEqual(['live'])
    expect(
      await place.client.send(new GetFunctionConfigurationCommand({ FunctionName: 'hello:live' })),
    ).toMatchObject({
      Version: '2',
      FunctionArn: `${ARN}:live`,
    })
    await place.client.send(new DeleteAliasCommand(alias))
    expect(await errorOf(place.client.send(new GetAliasCommand(alias)))).toMatchObject({
      name: 'ResourceNotFoundException',
      message: expect.stringContaining(`${ARN}:live`),
    })
  })

  test('weights divide the calls of an alias over two versions', async () => {
    await publish()
    await change('2')
    await publish()
    const alias = { FunctionName: 'hello', Name: 'canary' }
    const weights = (share: number) => ({ AdditionalVersionWeights: { '2': share } })
    await place.client.send(
      new CreateAliasCommand({ ...alias, FunctionVersion: '1', RoutingConfig: weights(1) }),
    )
    expect(await executed('canary')).toBe('2')
    await place.client.send(new UpdateAliasCommand({ ...alias, RoutingConfig: weights(0) }))
    expect(await executed('canary')).toBe('1')
    await place.client.send(new UpdateAliasCommand({ ...alias, RoutingConfig: weights(0.5) }))
    const seen = new Set<string | undefined>()
    // Missing one of two in so many has a chance of 2^-63.
    for (let calls = 0; calls < 64 && seen.size < 2; calls++) seen.add(await executed('canary'))
    expect(seen).toEqual(new Set(['1', '2']))
    const got = await place.client.send(new GetAliasCommand(alias))
    expect(got.RoutingConfig?.AdditionalVersionWeights).toEqual({ '2': 0.5 })
    await place.client.send(new UpdateAliasCommand({ ...alias, RoutingConfig: {} }))
    expect((await place.client.send(new GetAliasCommand(alias))).RoutingConfig).toBeUndefined()
  })

  test.each([
    ['a version there is not', { FunctionVersion: '9' }, 'ResourceNotFoundException'],
    ['a name of digits alone', { Name: '12' }, 'ValidationException'],
    [
      'a weight above 1',
      { RoutingConfig: { AdditionalVersionWeights: { '1': 1.1 } } },
      'ValidationException',
    ],
    [
      '$LATEST with weights',
      { FunctionVersion: '$LATEST', RoutingConfig: { AdditionalVersionWeights: { '1': 0.1 } } },
      'InvalidParameterValueException',
    ],
    [
      'the same version twice',
      { RoutingConfig: { AdditionalVersionWeights: { '1': 0.1 } } },
      'InvalidParameterValueException',
    ],
  ] as const)('%s is refused', async (_what, fields, name) => {
    await publish()
    const request = { FunctionName: 'hello', Name: 'live', FunctionVersion: '1', ...fields }
    expect((await errorOf(place.client.send(new CreateAliasCommand(request)))).name).toBe(name)
  })

  test('an alias that is there is a conflict', async () => {
    const alias = new CreateAliasCommand({ FunctionName: 'hello', Name: 'live', FunctionVersion: '$LATEST' })
    await place.client.send(alias)
    expect(await errorOf(place.client.send(alias))).toMatchObject({ name: 'ResourceConflictException' })
    expect(await executed('live')).toBe('$LATEST')
  })
})
