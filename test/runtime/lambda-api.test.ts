/** What the Lambda API says to what is no proper call. */
import * as sdk from '@aws-sdk/client-lambda'
import { request as httpRequest } from 'node:http'
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findOperation } from '../../runtime/lambda-api/operations.ts'
import { presignedUrl } from '../../runtime/lambda-api/presigned-url.ts'
import type { Call } from '../../runtime/lambda-api/call.ts'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { errorOf, newFunction, openLambdaPlace, type LambdaPlace } from './lambda-api-place.ts'

let place: LambdaPlace
beforeAll(async () => {
  place = await openLambdaPlace()
  await place.client.send(new sdk.CreateFunctionCommand(await newFunction('hello')))
})
afterAll(() => place.close())

/** Sends a call of the SDK's with its body, path or query changed before it is signed. */
async function sendChanged(
  change: (request: {
    body?: unknown
    path: string
    headers: Record<string, string>
    method: string
  }) => void,
): Promise<{ readonly name: string; readonly message: string; readonly status: number | undefined }> {
  const client = place.connect()
  client.middlewareStack.add(
    (next) => (args) => {
      const request = args.request as Parameters<typeof change>[0]
      change(request)
      if (request.body !== undefined) {
        request.headers['content-length'] = String(Buffer.byteLength(request.body as string))
      }
      return next(args)
    },
    { step: 'build', priority: 'low' },
  )
  return await errorOf(
    client.send(new sdk.CreateAliasCommand({ FunctionName: 'hello', Name: 'x', FunctionVersion: '1' })),
  )
}

interface OperationSchema {
  readonly http: readonly [string, string, number]
}

/** Every operation that this SDK knows, as its own schemas have it. */
function operationsOfSdk(): readonly {
  readonly name: string
  readonly method: string
  readonly path: string
}[] {
  return Object.entries(sdk as unknown as Record<string, unknown>).flatMap(([name, schema]) => {
    if (!Array.isArray(schema) || schema[0] !== 9) return []
    const { http } = schema[3] as OperationSchema
    return [{ name: name.replace('$', ''), method: http[0], path: http[1] }]
  })
}

describe('operations', () => {
  test('each that the SDK knows is supported, or refused by its own name', async () => {
    const operations = operationsOfSdk()
    expect(operations.length).toBeGreaterThan(80)
    // They share a method and a path with another, which answers for both.
    const shared: Record<string, string> = {
      ListProvisionedConcurrencyConfigs: 'GetProvisionedConcurrencyConfig',
      GetLayerVersionByArn: 'ListLayers',
    }
    for (const { name, method, path } of operations) {
      const found = findOperation(method, (path.split('?')[0] ?? '').replaceAll(/\{\w+\}/g, 'x'))
      expect(found?.name, name).toBe(shared[name] ?? name)
    }
  })

  test('what is not supported says so, with the operation’s name', async () => {
    const { client } = place
    const calls = {
      AddPermission: new sdk.AddPermissionCommand({
        FunctionName: 'hello',
        StatementId: 's',
        Action: 'lambda:InvokeFunction',
        Principal: '*',
      }),
      GetPolicy: new sdk.GetPolicyCommand({ FunctionName: 'hello' }),
      ListLayers: new sdk.ListLayersCommand({}),
      CreateEventSourceMapping: new sdk.CreateEventSourceMappingCommand({ FunctionName: 'hello' }),
      GetFunctionCodeSigningConfig: new sdk.GetFunctionCodeSigningConfigCommand({ FunctionName: 'hello' }),
    }
    for (const [name, call] of Object.entries(calls)) {
      expect(await errorOf(client.send(call as never))).toMatchObject({
        name: 'UnsupportedOperationException',
        status: 400,
        message: expect.stringContaining(`${name} is not supported by isola`),
      })
    }
  })

  test('what AWS does not have either is an unknown operation', async () => {
    for (const path of [
      '/2015-03-31/nothing',
      '/2015-03-31/functions/hello/aliases/a/b',
      '/2099-12-31/functions',
    ]) {
      expect(
        await sendChanged((request) => {
          request.path = path
        }),
      ).toMatchObject({ name: 'UnknownOperationException', status: 404 })
    }
    expect(
      await sendChanged((request) => {
        request.method = 'PATCH'
      }),
    ).toMatchObject({ name: 'UnknownOperationException' })
  })

  test('the control API beside it is asked as before', async () => {
    const response = await fetch(`${place.url}/v1/functions`, {
      headers: { authorization: 'Bearer a-token-of-the-tests' },
    })
    expect(await response.json()).toMatchObject({ functions: [{ name: 'hello' }] })
  })
})

describe('bodies', () => {
  test.each([
    ['no JSON', '{"Name": ', 'InvalidRequestContentException'],
    ['a list', '[]', 'InvalidRequestContentException'],
    ['null', 'null', 'InvalidRequestContentException'],
    ['no fields', '{}', 'ValidationException'],
    ['a field of another type', '{"Name": 1, "FunctionVersion": "1"}', 'SerializationException'],
    [
      'a field there is not',
      '{"Name": "x", "FunctionVersion": "1", "Nonsense": 1}',
      'InvalidParameterValueException',
    ],
    ['endless nesting', `${'['.repeat(100_000)}${']'.repeat(100_000)}`, 'InvalidRequestContentException'],
    [
      'endless nesting in a field',
      `{"Deep":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`,
      'InvalidRequestContentException',
    ],
  ])('%s is refused by name', async (_what, body, name) => {
    expect(
      await sendChanged((request) => {
        request.body = body
      }),
    ).toMatchObject({ name, status: 400 })
  })

  test('one that is too long is refused before it is read, with its bound', async () => {
    const signed = new Promise<Record<string, string>>((resolve) => {
      const client = place.connect()
      client.middlewareStack.add(
        (next) => async (args) => {
          const outcome = await next(args)
          resolve((args.request as { headers: Record<string, string> }).headers)
          return outcome
        },
        { step: 'finalizeRequest', priority: 'low', name: 'seeHeaders' },
      )
      void client.send(new sdk.ListFunctionsCommand({}))
    })
    const { authorization = '', 'x-amz-date': date = '' } = await signed
    const sent = httpRequest(`${place.url}/2015-03-31/functions`, {
      method: 'POST',
      headers: {
        authorization,
        'x-amz-date': date,
        'content-length': LAMBDA_API_LIMITS.codeRequestBytesMax + 1,
      },
    })
    sent.on('error', () => undefined)
    sent.flushHeaders()
    const [answer] = (await once(sent, 'response')) as [import('node:http').IncomingMessage]
    expect([answer.statusCode, answer.headers['x-amzn-errortype']]).toEqual([
      413,
      'RequestEntityTooLargeException',
    ])
    sent.destroy()
  })

  test('archives of other sizes than AWS’s are refused when their directory is read', async () => {
    const { Code, ...request } = await newFunction('big')
    // The directory of the archive claims more than may be unpacked.
    const zip = Buffer.from(Code.ZipFile)
    const entry = zip.indexOf(Buffer.from('PK\u0001\u0002', 'latin1'))
    zip.writeUInt32LE(262_144_001, entry + 24)
    const call = new sdk.CreateFunctionCommand({ ...request, Code: { ZipFile: zip } })
    expect(await errorOf(place.client.send(call))).toMatchObject({
      name: 'InvalidParameterValueException',
      message: 'Unzipped size must be smaller than 262144000 bytes',
    })
    const large = new sdk.CreateFunctionCommand({
      ...request,
      Code: { ZipFile: Buffer.alloc(50 * 1024 * 1024 + 1) },
    })
    expect(await errorOf(place.client.send(large))).toMatchObject({
      name: 'RequestEntityTooLargeException',
      status: 413,
    })
  })
})

describe('presigned URLs', () => {
  test.each([
    [
      'X-Amz-Expires=600',
      `X-Amz-Expires=${LAMBDA_API_LIMITS.presignedSMax + 1}`,
      'IncompleteSignatureException',
    ],
    ['X-Amz-Expires=600', 'X-Amz-Expires=601', 'InvalidSignatureException'],
    ['X-Amz-Expires=600', 'X-Amz-Expires=x', 'IncompleteSignatureException'],
    ['&X-Amz-Expires=600', '', 'IncompleteSignatureException'],
    ['X-Amz-Algorithm=AWS4-HMAC-SHA256', 'X-Amz-Algorithm=none', 'IncompleteSignatureException'],
    ['X-Amz-SignedHeaders=host', 'X-Amz-SignedHeaders=date', 'InvalidSignatureException'],
  ])('%s as %s is refused', async (part, other, name) => {
    const call = {
      ports: place.ports,
      region: 'us-east-1',
      accessKeyId: place.key.accessKeyId,
      url: new URL(place.url),
      headers: new Headers({ host: new URL(place.url).host }),
    } as unknown as Call
    const url = presignedUrl(call, 'hello', undefined)
    expect(url).toContain(part)
    expect((await fetch(url)).status).toBe(200)
    const response = await fetch(url.replace(part, other))
    expect([response.status, response.headers.get('x-amzn-errortype')]).toEqual([403, name])
  })
})

describe('bounds of a function', () => {
  test('aliases and published versions beyond the most are refused', async () => {
    await place.client.send(new sdk.PublishVersionCommand({ FunctionName: 'hello' }))
    await place.ports.registry.swap((head) => {
      const record = head.functions['hello']
      const lambda = record?.lambda
      if (record === undefined || lambda === undefined) throw new Error('it is there')
      const [first] = lambda.versions
      const alias = { description: '', functionVersion: '1', weights: {}, revisionId: 'r' }
      const numbers = Array.from({ length: LAMBDA_API_LIMITS.publishedVersionsMax }, (_, index) => index + 1)
      return {
        ...head.functions,
        hello: {
          ...record,
          lambda: {
            ...lambda,
            aliases: Object.fromEntries(
              Array.from({ length: LAMBDA_API_LIMITS.aliasesMax }, (_, index) => [`a${index}`, alias]),
            ),
            versions: numbers.map((number) => ({
              number,
              versionId: number === numbers.length ? 'f'.repeat(32) : (first?.versionId ?? ''),
              description: '',
              createdAt: new Date().toISOString(),
            })),
          },
        },
      }
    })
    const alias = new sdk.CreateAliasCommand({ FunctionName: 'hello', Name: 'more', FunctionVersion: '1' })
    expect(await errorOf(place.client.send(alias))).toMatchObject({
      name: 'InvalidParameterValueException',
      message: expect.stringContaining('100 aliases'),
    })
    const publish = new sdk.PublishVersionCommand({ FunctionName: 'hello' })
    expect(await errorOf(place.client.send(publish))).toMatchObject({
      message: expect.stringContaining('100 published versions'),
    })
    const page = await place.client.send(new sdk.ListAliasesCommand({ FunctionName: 'hello' }))
    expect(page.Aliases).toHaveLength(LAMBDA_API_LIMITS.itemsPerPageMax)
    expect(page.NextMarker).toBeDefined()
  })
})
