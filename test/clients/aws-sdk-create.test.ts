/** The unmodified AWS SDK makes functions. */
import { CreateFunctionCommand, GetFunctionCommand } from '@aws-sdk/client-lambda'
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { ContainerContent } from '../../sdk/model/function.ts'
import {
  errorOf,
  IMAGE_ID,
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
