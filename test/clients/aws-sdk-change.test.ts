/** The unmodified AWS SDK changes functions, waits for them, and lists them. */
import {
  CreateFunctionCommand,
  DeleteFunctionCommand,
  GetAccountSettingsCommand,
  GetFunctionCommand,
  GetFunctionConfigurationCommand,
  InvokeCommand,
  ListFunctionsCommand,
  PublishVersionCommand,
  UpdateFunctionCodeCommand,
  UpdateFunctionConfigurationCommand,
  waitUntilFunctionActiveV2,
  waitUntilFunctionExists,
  waitUntilFunctionUpdated,
  waitUntilFunctionUpdatedV2,
  waitUntilPublishedVersionActive,
} from '@aws-sdk/client-lambda'
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { IsolaError } from '../../sdk/model/errors.ts'
import {
  errorOf,
  IMAGE_ID,
  newFunction,
  openLambdaPlace,
  TOKEN,
  zipOf,
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

describe('changes that take longer than a call', () => {
  let slow: LambdaPlace
  let release: (imageId: string) => void
  beforeEach(async () => {
    slow = await openLambdaPlace({ changeWaitMs: 1 })
    slow.node.resolveImage = () =>
      new Promise((resolve) => {
        release = resolve
      })
  })
  afterEach(() => slow.close())
  const IMAGE = { FunctionName: 'slow', Role: 'r', PackageType: 'Image', Code: { ImageUri: 'a:1' } } as const

  test('a function is Pending until its image is there, then Active; the waiter ends', async () => {
    const made = await slow.client.send(new CreateFunctionCommand(IMAGE))
    expect(made).toMatchObject({ State: 'Pending', StateReasonCode: 'Creating' })
    const { Configuration } = await slow.client.send(new GetFunctionCommand({ FunctionName: 'slow' }))
    expect(Configuration).toMatchObject({ State: 'Pending', FunctionName: 'slow' })
    expect(await errorOf(slow.client.send(new InvokeCommand({ FunctionName: 'slow' })))).toMatchObject({
      name: 'ResourceConflictException',
      message: expect.stringContaining('Pending'),
    })
    expect(await errorOf(slow.client.send(new CreateFunctionCommand(IMAGE)))).toMatchObject({
      name: 'ResourceConflictException',
      message: expect.stringContaining('in progress'),
    })
    release(IMAGE_ID)
    const waiter = { client: slow.client, maxWaitTime: 30, minDelay: 1, maxDelay: 1 }
    const { state } = await waitUntilFunctionActiveV2(waiter, { FunctionName: 'slow' })
    expect(state).toBe('SUCCESS')
  })

  test('one that cannot be made is Failed with the reason, and can be deleted or made again', async () => {
    slow.node.resolveImage = async () => {
      await new Promise((resolve) => setTimeout(resolve, 20))
      throw new IsolaError('image_not_found', 'no registry has "a:1"')
    }
    await slow.client.send(new CreateFunctionCommand(IMAGE))
    await slow.idle()
    expect(
      await slow.client.send(new GetFunctionConfigurationCommand({ FunctionName: 'slow' })),
    ).toMatchObject({
      State: 'Failed',
      StateReason: 'no registry has "a:1"',
    })
    await slow.client.send(new DeleteFunctionCommand({ FunctionName: 'slow' }))
    expect((await errorOf(slow.client.send(new GetFunctionCommand({ FunctionName: 'slow' })))).name).toBe(
      'ResourceNotFoundException',
    )
  })

  test('an update is InProgress while the old version serves, then Successful', async () => {
    slow.node.resolveImage = async () => IMAGE_ID
    await slow.client.send(new CreateFunctionCommand(IMAGE))
    await slow.idle()
    slow.node.resolveImage = () =>
      new Promise((resolve) => {
        release = resolve
      })
    const update = new UpdateFunctionCodeCommand({ FunctionName: 'slow', ImageUri: 'a:2' })
    expect(await slow.client.send(update)).toMatchObject({ State: 'Active', LastUpdateStatus: 'InProgress' })
    const now = await slow.client.send(new GetFunctionConfigurationCommand({ FunctionName: 'slow' }))
    expect(now).toMatchObject({ LastUpdateStatus: 'InProgress', CodeSha256: IMAGE_ID.slice(7) })
    release(`sha256:${'cd'.repeat(32)}`)
    const waiter = { client: slow.client, maxWaitTime: 30, minDelay: 1, maxDelay: 1 }
    await waitUntilFunctionUpdatedV2(waiter, { FunctionName: 'slow' })
    const after = await slow.client.send(new GetFunctionConfigurationCommand({ FunctionName: 'slow' }))
    expect(after).toMatchObject({ LastUpdateStatus: 'Successful', CodeSha256: 'cd'.repeat(32) })
  })

  test('an update that fails late says so, and the old version goes on', async () => {
    slow.node.resolveImage = async () => IMAGE_ID
    await slow.client.send(new CreateFunctionCommand(IMAGE))
    await slow.idle()
    slow.node.resolveImage = async () => {
      await new Promise((resolve) => setTimeout(resolve, 20))
      throw new IsolaError('image_unusable', 'the image is for arm64')
    }
    await slow.client.send(new UpdateFunctionCodeCommand({ FunctionName: 'slow', ImageUri: 'a:2' }))
    await slow.idle()
    expect(
      await slow.client.send(new GetFunctionConfigurationCommand({ FunctionName: 'slow' })),
    ).toMatchObject({
      State: 'Active',
      LastUpdateStatus: 'Failed',
      LastUpdateStatusReason: 'the image is for arm64',
      CodeSha256: IMAGE_ID.slice(7),
    })
  })
})

describe('changing a function', () => {
  beforeEach(() => create())
  const configuration = (FunctionName = 'hello') =>
    place.client.send(new GetFunctionConfigurationCommand({ FunctionName }))

  test('new code is deployed under the same settings, and is a new revision', async () => {
    const before = await configuration()
    const ZipFile = await zipOf({ 'index.mjs': 'export const handler = () => 2' })
    const after = await place.client.send(new UpdateFunctionCodeCommand({ FunctionName: ARN, ZipFile }))
    expect(after.CodeSha256).toBe(createHash('sha256').update(ZipFile).digest('base64'))
    expect(after.RevisionId).not.toBe(before.RevisionId)
    expect(after).toMatchObject({ Handler: 'index.handler', Timeout: 3, Version: '$LATEST' })
  })

  test('a dry run checks the code and changes nothing', async () => {
    const before = await configuration()
    const ZipFile = await zipOf({ 'other.mjs': 'x' })
    const dry = await place.client.send(
      new UpdateFunctionCodeCommand({ FunctionName: 'hello', ZipFile, DryRun: true }),
    )
    expect(dry.CodeSha256).toBe(createHash('sha256').update(ZipFile).digest('base64'))
    expect((await configuration()).CodeSha256).toBe(before.CodeSha256)
    expect(place.started).toHaveLength(1)
  })

  test('new code can be published at once', async () => {
    const ZipFile = await zipOf({ 'index.mjs': '2' })
    const published = await place.client.send(
      new UpdateFunctionCodeCommand({ FunctionName: 'hello', ZipFile, Publish: true }),
    )
    expect(published).toMatchObject({ Version: '1', FunctionArn: `${ARN}:1` })
  })

  test('each setting changes alone, and a change of words alone starts nothing', async () => {
    const change = async (fields: object) =>
      await place.client.send(new UpdateFunctionConfigurationCommand({ FunctionName: 'hello', ...fields }))
    expect(await change({ Timeout: 60 })).toMatchObject({ Timeout: 60, MemorySize: 128 })
    expect(await change({ Environment: { Variables: { A: '1' } } })).toMatchObject({ Timeout: 60 })
    expect(await change({ MemorySize: 256 })).toMatchObject({ Environment: { Variables: { A: '1' } } })
    const starts = place.started.length
    expect(await change({ Description: 'new', Role: 'other' })).toMatchObject({
      Description: 'new',
      Role: 'other',
    })
    expect(place.started).toHaveLength(starts)
    expect((await change({ Environment: { Variables: {} } })).Environment).toBeUndefined()
  })

  test('the revision that a change was made for must be the current one', async () => {
    const { RevisionId } = await configuration()
    const update = new UpdateFunctionConfigurationCommand({ FunctionName: 'hello', Timeout: 9, RevisionId })
    await place.client.send(update)
    expect(await errorOf(place.client.send(update))).toMatchObject({
      name: 'PreconditionFailedException',
      status: 412,
    })
  })

  test('code that does not start leaves the old version serving', async () => {
    const before = await configuration()
    place.node.trialStart = async () => {
      throw new IsolaError('version_refused', 'the version does not start: boom')
    }
    const ZipFile = await zipOf({ 'index.mjs': 'throw 1' })
    expect(
      await errorOf(place.client.send(new UpdateFunctionCodeCommand({ FunctionName: 'hello', ZipFile }))),
    ).toMatchObject({ name: 'InvalidParameterValueException', message: expect.stringContaining('boom') })
    expect(await configuration()).toMatchObject({
      CodeSha256: before.CodeSha256,
      LastUpdateStatus: 'Successful',
    })
  })

  test('what was deployed and rolled back past this API is seen, and is a new revision', async () => {
    const before = await configuration()
    const ZipFile = await zipOf({ 'index.mjs': '2' })
    await place.client.send(new UpdateFunctionCodeCommand({ FunctionName: 'hello', ZipFile }))
    const headers = { authorization: 'Bearer a-token-of-the-tests' }
    await fetch(`${place.url}/v1/functions/hello/rollback`, { method: 'POST', headers, body: '{}' })
    const after = await configuration()
    expect(after.CodeSha256).toBe(before.CodeSha256)
    expect(after.RevisionId).not.toBe(before.RevisionId)
  })

  test('the waiters of the SDK end', async () => {
    const waiter = { client: place.client, maxWaitTime: 10 }
    expect((await waitUntilFunctionExists(waiter, { FunctionName: 'hello' })).state).toBe('SUCCESS')
    expect((await waitUntilFunctionUpdated(waiter, { FunctionName: 'hello' })).state).toBe('SUCCESS')
    await place.client.send(new PublishVersionCommand({ FunctionName: 'hello' }))
    const version = { FunctionName: 'hello', Qualifier: '1' }
    expect((await waitUntilPublishedVersionActive(waiter, version)).state).toBe('SUCCESS')
  })

  test('the archive can be fetched from where the answer says, and from nowhere else', async () => {
    const { Code } = await place.client.send(new GetFunctionCommand({ FunctionName: 'hello' }))
    const location = Code?.Location ?? ''
    const response = await fetch(location)
    const { Code: sent } = await newFunction('hello')
    expect(Buffer.from(await response.arrayBuffer())).toHaveLength(sent.ZipFile.byteLength)
    expect((await fetch(location.replace('/hello/', '/other/'))).status).toBe(403)
    place.node.nowMs = () => Date.now() + 601_000
    expect((await fetch(location)).headers.get('x-amzn-errortype')).toBe('InvalidSignatureException')
  })

  test('a function that was deleted is not found, nor are its versions', async () => {
    await place.client.send(new DeleteFunctionCommand({ FunctionName: 'hello' }))
    for (const call of [
      new GetFunctionCommand({ FunctionName: 'hello' }),
      new DeleteFunctionCommand({ FunctionName: 'hello' }),
      new InvokeCommand({ FunctionName: 'hello' }),
    ]) {
      expect(await errorOf(place.client.send(call as never))).toMatchObject({
        name: 'ResourceNotFoundException',
        status: 404,
        message: expect.stringContaining(`Function not found: ${ARN}`),
      })
    }
  })
})

describe('functions of other origins', () => {
  const control = async (path: string, body: object): Promise<number> => {
    const headers = { authorization: `Bearer ${TOKEN}` }
    const response = await fetch(`${place.url}/v1/functions/${path}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
    })
    return response.status
  }
  const source = { type: 'image', imageId: IMAGE_ID }
  const container = { kind: 'container', source, bindings: [] }

  test('one that isola deployed is seen, called and changed, and keeps its routes', async () => {
    const routes = [{ pattern: 'api.example/*' }]
    expect(await control('mine/deploy', { ...container, protocol: 'lambda', routes })).toBe(200)
    const FunctionName = 'mine'
    const { Configuration } = await place.client.send(new GetFunctionCommand({ FunctionName }))
    expect(Configuration).toMatchObject({ PackageType: 'Image', MemorySize: 256, Timeout: 30, Role: '' })
    expect((await place.client.send(new InvokeCommand({ FunctionName }))).StatusCode).toBe(200)
    await place.client.send(new UpdateFunctionConfigurationCommand({ FunctionName, Timeout: 5 }))
    expect(place.ports.registry.head.functions['mine']).toMatchObject({
      routes: [{ pattern: 'api.example/*', source: 'config' }],
      baseDomainHost: true,
    })
    const { Functions } = await place.client.send(new ListFunctionsCommand({}))
    expect(Functions).toMatchObject([{ FunctionName, Timeout: 5 }])
  })

  test('one that answers HTTP itself is none of AWS’s: not listed, not called, its name taken', async () => {
    expect(await control('web/deploy', { ...container, protocol: 'http' })).toBe(200)
    const FunctionName = 'web'
    expect((await place.client.send(new ListFunctionsCommand({}))).Functions).toEqual([])
    for (const call of [new GetFunctionCommand({ FunctionName }), new InvokeCommand({ FunctionName })]) {
      expect(await errorOf(place.client.send(call as never))).toMatchObject({
        name: 'ResourceNotFoundException',
        message: expect.stringContaining('answers HTTP itself'),
      })
    }
    expect(await errorOf(create('web'))).toMatchObject({ name: 'ResourceConflictException' })
  })
})

describe('lists', () => {
  test('functions come in pages, each once, and are counted', async () => {
    for (const name of ['a', 'b', 'c']) await create(name)
    const names: unknown[] = []
    let Marker: string | undefined
    do {
      const page = await place.client.send(new ListFunctionsCommand({ MaxItems: 2, Marker }))
      names.push(...(page.Functions ?? []).map(({ FunctionName }) => FunctionName))
      Marker = page.NextMarker
    } while (Marker !== undefined && Marker !== null)
    expect(names).toEqual(['a', 'b', 'c'])
    const { AccountUsage } = await place.client.send(new GetAccountSettingsCommand({}))
    expect(AccountUsage).toMatchObject({ FunctionCount: 3 })
    const { AccountLimit } = await place.client.send(new GetAccountSettingsCommand({}))
    expect(AccountLimit).toMatchObject({ CodeSizeZipped: 50 * 1024 * 1024 })
  })

  test('with FunctionVersion ALL the published are among them', async () => {
    await create()
    await place.client.send(new PublishVersionCommand({ FunctionName: 'hello' }))
    const { Functions } = await place.client.send(new ListFunctionsCommand({ FunctionVersion: 'ALL' }))
    expect(Functions?.map(({ Version }) => Version)).toEqual(['$LATEST', '1'])
  })

  test('a page of nothing is refused', async () => {
    expect(await errorOf(place.client.send(new ListFunctionsCommand({ MaxItems: 0 })))).toMatchObject({
      name: 'ValidationException',
    })
  })
})
