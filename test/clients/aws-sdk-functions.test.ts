/** The unmodified AWS SDK makes, changes and looks at functions. */
import {
  CreateAliasCommand,
  CreateFunctionCommand,
  CreateFunctionUrlConfigCommand,
  DeleteAliasCommand,
  DeleteFunctionCommand,
  DeleteFunctionConcurrencyCommand,
  DeleteFunctionEventInvokeConfigCommand,
  DeleteFunctionUrlConfigCommand,
  DeleteProvisionedConcurrencyConfigCommand,
  GetAccountSettingsCommand,
  GetAliasCommand,
  GetFunctionCommand,
  GetFunctionConcurrencyCommand,
  GetFunctionConfigurationCommand,
  GetFunctionEventInvokeConfigCommand,
  GetFunctionUrlConfigCommand,
  GetProvisionedConcurrencyConfigCommand,
  InvokeCommand,
  ListAliasesCommand,
  ListFunctionEventInvokeConfigsCommand,
  ListFunctionsCommand,
  ListFunctionUrlConfigsCommand,
  ListProvisionedConcurrencyConfigsCommand,
  ListTagsCommand,
  ListVersionsByFunctionCommand,
  PublishVersionCommand,
  PutFunctionConcurrencyCommand,
  PutFunctionEventInvokeConfigCommand,
  PutProvisionedConcurrencyConfigCommand,
  TagResourceCommand,
  UntagResourceCommand,
  UpdateAliasCommand,
  UpdateFunctionCodeCommand,
  UpdateFunctionConfigurationCommand,
  UpdateFunctionEventInvokeConfigCommand,
  UpdateFunctionUrlConfigCommand,
  waitUntilFunctionActiveV2,
  waitUntilFunctionExists,
  waitUntilFunctionUpdated,
  waitUntilFunctionUpdatedV2,
  waitUntilPublishedVersionActive,
} from '@aws-sdk/client-lambda'
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ContainerContent } from '../../sdk/model/function.ts'
import { IsolaError } from '../../sdk/model/errors.ts'
import {
  errorOf,
  IMAGE_ID,
  newFunction,
  openLambdaPlace,
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
const contentOf = (index: number): ContainerContent => place.started.at(index)?.content as ContainerContent

describe('CreateFunction', () => {
  test('deploys the archive with what AWS presets, and answers with all that clients look for', async () => {
    const request = await newFunction('hello')
    const made = await place.client.send(new CreateFunctionCommand(request))
    expect(made).toMatchObject({
      FunctionName: 'hello',
      FunctionArn: ARN,
      Runtime: 'nodejs24.x',
      Handler: 'index.handler',
      Role: request.Role,
      CodeSize: request.Code.ZipFile.byteLength,
      CodeSha256: createHash('sha256').update(request.Code.ZipFile).digest('base64'),
      Timeout: 3,
      MemorySize: 128,
      EphemeralStorage: { Size: 512 },
      Version: '$LATEST',
      PackageType: 'Zip',
      Architectures: ['x86_64'],
      State: 'Active',
      LastUpdateStatus: 'Successful',
    })
    expect(made.LastModified).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000$/)
    expect(made.RevisionId).toMatch(/^[0-9a-f-]{36}$/)
    expect(made.$metadata).toMatchObject({ httpStatusCode: 201 })
    expect(contentOf(0)).toMatchObject({
      kind: 'container',
      protocol: 'lambda',
      source: { type: 'code', runtime: 'nodejs24', handler: 'index.handler' },
      limits: { memoryMib: 128 },
      settings: { timeoutMs: 3_000, ephemeralStorageMib: 512, egress: false, responseStreaming: false },
    })
  })

  test('takes every setting that isola has, and gives it back', async () => {
    const made = await place.client.send(
      new CreateFunctionCommand({
        ...(await newFunction('hello')),
        Runtime: 'python3.12',
        Description: 'greets',
        Timeout: 900,
        MemorySize: 10_240,
        EphemeralStorage: { Size: 1_024 },
        Environment: { Variables: { GREETING: 'hi', EMPTY: '' } },
        Architectures: ['x86_64'],
        Tags: { team: 'a', 'isola:egress': 'true' },
        Publish: true,
        TracingConfig: { Mode: 'PassThrough' },
        VpcConfig: { SubnetIds: [], SecurityGroupIds: [] },
      }),
    )
    expect(made).toMatchObject({
      FunctionArn: `${ARN}:1`,
      Version: '1',
      Runtime: 'python3.12',
      Description: 'greets',
      Timeout: 900,
      MemorySize: 10_240,
      EphemeralStorage: { Size: 1_024 },
      Environment: { Variables: { GREETING: 'hi', EMPTY: '' } },
    })
    expect(contentOf(0)).toMatchObject({
      source: { runtime: 'python3' },
      settings: { egress: true },
      bindings: [
        { type: 'text', name: 'EMPTY', text: '' },
        { type: 'text', name: 'GREETING', text: 'hi' },
      ],
    })
    const { Tags } = await place.client.send(new GetFunctionCommand({ FunctionName: 'hello' }))
    expect(Tags).toEqual({ team: 'a', 'isola:egress': 'true' })
  })

  test('an image is brought to the node, and its configuration is told', async () => {
    place.node.images.set('registry.example/hello:1', IMAGE_ID)
    const made = await place.client.send(
      new CreateFunctionCommand({
        FunctionName: 'hello',
        Role: 'r',
        PackageType: 'Image',
        Code: { ImageUri: 'registry.example/hello:1' },
        ImageConfig: { Command: ['app.handler'], WorkingDirectory: '/srv' },
      }),
    )
    expect(made).toMatchObject({
      PackageType: 'Image',
      CodeSha256: 'ab'.repeat(32),
      State: 'Active',
      ImageConfigResponse: { ImageConfig: { Command: ['app.handler'], WorkingDirectory: '/srv' } },
    })
    expect(made.Runtime).toBeUndefined()
    expect(contentOf(0).source).toEqual({
      type: 'image',
      imageId: IMAGE_ID,
      command: ['app.handler'],
      workingDirectory: '/srv',
    })
    const { Code } = await place.client.send(new GetFunctionCommand({ FunctionName: 'hello' }))
    expect(Code).toMatchObject({ RepositoryType: 'ECR', ImageUri: 'registry.example/hello:1' })
  })

  test('a function has no public address until one is asked for', async () => {
    await create()
    expect(place.ports.registry.head.functions['hello']).toMatchObject({
      baseDomainHost: false,
      previewHosts: false,
      routes: [],
    })
  })

  test.each([
    ['a name that is no host name', { FunctionName: 'My_Func' }, 'ValidationException', /host name/],
    ['too little memory', { MemorySize: 64 }, 'ValidationException', /'64' at 'memorySize'.*128/],
    ['too much memory', { MemorySize: 10_241 }, 'ValidationException', /10240/],
    ['a timeout of nothing', { Timeout: 0 }, 'ValidationException', /'timeout'.*1/],
    ['a timeout beyond AWS’s', { Timeout: 901 }, 'ValidationException', /900/],
    [
      'too little storage',
      { EphemeralStorage: { Size: 511 } },
      'ValidationException',
      /ephemeralStorage\.size/,
    ],
    [
      'a runtime there is not',
      { Runtime: 'java21' },
      'InvalidParameterValueException',
      /nodejs24\.x.*python3/,
    ],
    ['another architecture', { Architectures: ['arm64'] }, 'InvalidParameterValueException', /x86_64/],
    ['no runtime', { Runtime: undefined }, 'InvalidParameterValueException', /mandatory/],
    ['a handler that is none', { Handler: 'nothing' }, 'InvalidParameterValueException', /handler/],
    ['code in S3', { Code: { S3Bucket: 'b', S3Key: 'k' } }, 'InvalidParameterValueException', /S3/],
    ['no code', { Code: {} }, 'InvalidParameterValueException', /source for your function code/],
    ['layers', { Layers: ['arn:x'] }, 'InvalidParameterValueException', /Layers is not supported/],
    ['a VPC', { VpcConfig: { SubnetIds: ['s'] } }, 'InvalidParameterValueException', /VpcConfig/],
    ['tracing', { TracingConfig: { Mode: 'Active' } }, 'InvalidParameterValueException', /TracingConfig/],
    [
      'a variable that AWS sets',
      { Environment: { Variables: { AWS_REGION: 'x' } } },
      'InvalidParameterValueException',
      /reserved keys.*AWS_REGION/,
    ],
    [
      'a variable that no environment has',
      { Environment: { Variables: { '1x': 'x' } } },
      'ValidationException',
      /1x/,
    ],
    [
      'an environment over 4 KB',
      { Environment: { Variables: { BIG: 'x'.repeat(4_100) } } },
      'InvalidParameterValueException',
      /4KB/,
    ],
    [
      'an image with a handler’s package type',
      { PackageType: 'Image' },
      'InvalidParameterValueException',
      /PackageType/,
    ],
  ] as const)('%s is refused, and nothing is made', async (_what, change, name, message) => {
    const request = { ...(await newFunction('hello')), ...change }
    expect(await errorOf(place.client.send(new CreateFunctionCommand(request as never)))).toMatchObject({
      name,
      status: 400,
      message: expect.stringMatching(message),
    })
    expect(place.ports.registry.head.functions).toEqual({})
    expect(place.started).toEqual([])
  })

  test.each([
    ['no zip', Buffer.from('this is no archive')],
    ['no bytes', Buffer.alloc(0)],
    ['an archive without files', undefined],
    ['a path that leads out', 'escape'],
    ['an archive that was cut off', 'cut'],
  ])('%s is refused as AWS refuses it', async (_what, bytes) => {
    const archives: Record<string, () => Promise<Buffer>> = {
      escape: async () => {
        const name = 'aaaaa.js'
        const zip = await zipOf({ [name]: 'x' })
        return Buffer.from(zip.toString('latin1').replaceAll(name, '../up.js'), 'latin1')
      },
      cut: async () => (await zipOf({ 'index.js': 'x'.repeat(1_000) })).subarray(0, -30),
    }
    const ZipFile =
      bytes === undefined ? await zipOf({}) : typeof bytes === 'string' ? await archives[bytes]?.() : bytes
    const request = { ...(await newFunction('hello')), Code: { ZipFile } }
    const error = await errorOf(place.client.send(new CreateFunctionCommand(request)))
    expect(error).toMatchObject({ name: 'InvalidParameterValueException', status: 400 })
    expect(error.message).toMatch(/Could not unzip uploaded file|non-empty zip|source for your function code/)
    expect(place.ports.registry.head.functions).toEqual({})
  })

  test('code that does not start is refused with its own words, and leaves nothing', async () => {
    place.node.trialStart = async () => {
      throw new IsolaError('version_refused', 'the version does not start: index.handler is undefined')
    }
    expect(await errorOf(create())).toMatchObject({
      name: 'InvalidParameterValueException',
      message: expect.stringContaining('index.handler is undefined'),
    })
    expect(place.ports.registry.head.functions).toEqual({})
  })

  test('an image that is nowhere is refused', async () => {
    const request = {
      FunctionName: 'hello',
      Role: 'r',
      PackageType: 'Image',
      Code: { ImageUri: 'no:1' },
    } as const
    expect(await errorOf(place.client.send(new CreateFunctionCommand(request)))).toMatchObject({
      name: 'InvalidParameterValueException',
      message: expect.stringContaining('"no:1"'),
    })
  })

  test('a name that is taken is a conflict', async () => {
    await create()
    expect(await errorOf(create())).toMatchObject({
      name: 'ResourceConflictException',
      status: 409,
      message: 'Function already exist: hello',
    })
  })

  test('an engine that does not answer is the service’s fault', async () => {
    place.node.resolveImage = async () => {
      throw new IsolaError('engine_unavailable', 'the engine does not answer: start it')
    }
    const request = { FunctionName: 'hello', Role: 'r', Code: { ImageUri: 'a:1' } }
    expect(await errorOf(place.client.send(new CreateFunctionCommand(request)))).toMatchObject({
      name: 'ServiceException',
      status: 500,
      message: expect.stringContaining('engine'),
    })
  })
})

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
    expect([...seen].sort()).toEqual(['1', '2'])
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
