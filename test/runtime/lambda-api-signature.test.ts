/** Who is let in. Signatures are made by the AWS SDK's own signer, whole and with one part wrong. */
import { ListFunctionsCommand } from '@aws-sdk/client-lambda'
import { createHmac, createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { errorOf, openLambdaPlace, type LambdaPlace } from './lambda-api-place.ts'

let place: LambdaPlace
beforeEach(async () => {
  place = await openLambdaPlace()
})
afterEach(() => place.close())

const list = (options: Parameters<LambdaPlace['connect']>[0]) =>
  place.connect(options).send(new ListFunctionsCommand({}))

interface Outcome {
  readonly status: number
  readonly name: string | null
  readonly message: string
}

const PATH = '/2015-03-31/functions'

/** A request signed here, from the specification, so that any part of it can be wrong. */
function signed(
  change: {
    readonly method?: string
    readonly path?: string
    readonly query?: string
    readonly body?: string
    readonly headers?: Record<string, string>
    readonly date?: Date
    readonly scopeDate?: string
    readonly service?: string
    readonly term?: string
    readonly algorithm?: string
    readonly signedHeaders?: readonly string[]
  } = {},
): {
  readonly url: string
  readonly init: Omit<RequestInit, 'headers'> & { readonly headers: Record<string, string> }
} {
  const { method = 'GET', path = PATH, query = '', body = '', date = new Date() } = change
  const amzDate = date.toISOString().replaceAll(/[-:]|\.\d{3}/g, '')
  const scope = [
    change.scopeDate ?? amzDate.slice(0, 8),
    'eu-west-1',
    change.service ?? 'lambda',
    change.term ?? 'aws4_request',
  ]
  const headers: Record<string, string> = {
    host: new URL(place.url).host,
    'x-amz-date': amzDate,
    ...change.headers,
  }
  const names = (change.signedHeaders ?? Object.keys(headers)).toSorted()
  const sha = (text: string): string => createHash('sha256').update(text).digest('hex')
  const canonical = [
    method,
    path.split('/').map(encodeURIComponent).join('/'),
    query,
    ...names.map((name) => `${name}:${headers[name]}`),
    '',
    names.join(';'),
    sha(body),
  ].join('\n')
  const text = ['AWS4-HMAC-SHA256', amzDate, scope.join('/'), sha(canonical)].join('\n')
  let key: string | Buffer = `AWS4${place.key.secretAccessKey}`
  for (const part of scope) key = createHmac('sha256', key).update(part).digest()
  const signature = createHmac('sha256', key).update(text).digest('hex')
  const credential = `${place.key.accessKeyId}/${scope.join('/')}`
  const authorization = `${change.algorithm ?? 'AWS4-HMAC-SHA256'} Credential=${credential}, SignedHeaders=${names.join(';')}, Signature=${signature}`
  return {
    url: `${place.url}${path}${query === '' ? '' : `?${query}`}`,
    init: { method, headers: { ...headers, authorization }, ...(body !== '' && { body }) },
  }
}

async function send(request: { readonly url: string; readonly init: RequestInit }): Promise<Outcome> {
  const response = await fetch(request.url, request.init)
  expect(response.headers.get('x-amzn-requestid')).toMatch(/^[0-9a-f-]{36}$/)
  const body = (await response.json()) as { message?: string; Message?: string }
  expect(body.message).toBe(body.Message)
  return {
    status: response.status,
    name: response.headers.get('x-amzn-errortype'),
    message: body.message ?? '',
  }
}

describe('what is signed right', () => {
  test('is let in, from any region', async () => {
    for (const region of ['us-east-1', 'eu-central-1', 'us-gov-west-1']) {
      expect((await list({ region })).Functions).toEqual([])
    }
  })

  test('is let in without x-amz-content-sha256, as the AWS CLI signs', async () => {
    expect((await send(signed())).status).toBe(200)
  })

  test('is let in with a trailing slash, doubly encoded paths, odd queries and spaced headers', async () => {
    expect((await send(signed({ path: `${PATH}/` }))).status).toBe(200)
    const arn = 'arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Anone%3A%24LATEST'
    const missing = await send(signed({ path: `${PATH}/${arn}/configuration` }))
    expect(missing).toMatchObject({ status: 404, name: 'ResourceNotFoundException' })
    expect((await send(signed({ query: 'A=%20%7E'.replace('%7E', '~') + '&B=&a=%2B' }))).status).toBe(200)
    expect((await send(signed({ headers: { 'x-note': 'a b' } }))).status).toBe(200)
  })

  test('is let in up to fifteen minutes off the clock', async () => {
    const offMs = LAMBDA_API_LIMITS.clockSkewMsMax - 10_000
    expect((await send(signed({ date: new Date(Date.now() - offMs) }))).status).toBe(200)
    expect((await send(signed({ date: new Date(Date.now() + offMs) }))).status).toBe(200)
  })
})

describe('what is not', () => {
  test('another secret and an unknown key are told apart, as AWS does', async () => {
    expect(await errorOf(list({ secretAccessKey: 'wrong' }))).toMatchObject({
      name: 'InvalidSignatureException',
      status: 403,
      message: expect.stringContaining('does not match the signature you provided'),
    })
    expect(await errorOf(list({ accessKeyId: 'AKISOLANOBODY' }))).toMatchObject({
      name: 'UnrecognizedClientException',
      status: 403,
      message: 'The security token included in the request is invalid.',
    })
  })

  test('a key that was deleted is unknown at once', async () => {
    await place.ports.keys.delete(place.key.accessKeyId)
    expect(await errorOf(list({}))).toMatchObject({ name: 'UnrecognizedClientException' })
  })

  test('no signature at all is a missing token, also on paths that are not there', async () => {
    for (const path of [PATH, '/2015-03-31/nothing', '/2099-01-01/x']) {
      expect(await send({ url: `${place.url}${path}`, init: {} })).toEqual({
        status: 403,
        name: 'MissingAuthenticationTokenException',
        message: 'Missing Authentication Token',
      })
    }
  })

  test('the token of the control API opens nothing here', async () => {
    const init = { headers: { authorization: 'Bearer a-token-of-the-tests' } }
    expect((await send({ url: `${place.url}${PATH}`, init })).name).toBe('IncompleteSignatureException')
  })

  test.each([
    ['the method', (init: RequestInit) => ({ ...init, method: 'DELETE' })],
    ['a signed header', (init: RequestInit) => withHeader(init, 'x-note', 'other')],
    ['the body', (init: RequestInit) => ({ ...init, method: 'POST', body: '{"a":2}' })],
    ['the date', (init: RequestInit) => withHeader(init, 'x-amz-date', laterOf(init))],
  ])('%s that was changed after signing is found', async (what, change) => {
    const method = what === 'the body' ? 'POST' : 'GET'
    const request = signed({
      method,
      headers: { 'x-note': 'a' },
      ...(method === 'POST' && { body: '{"a":1}' }),
    })
    expect(await send({ url: request.url, init: change(request.init) })).toMatchObject({
      status: 403,
      name: 'InvalidSignatureException',
    })
  })

  test('a path and a query that were changed after signing are found', async () => {
    const request = signed({ query: 'MaxItems=1' })
    for (const url of [
      request.url.replace('MaxItems=1', 'MaxItems=2'),
      `${request.url}&Marker=x`,
      request.url.replace('/functions', '/functions/x'),
    ]) {
      expect((await send({ url, init: request.init })).name).toBe('InvalidSignatureException')
    }
  })

  test('a body other than its claimed hash is found before anything is made of it', async () => {
    const claimed = createHash('sha256').update('{}').digest('hex')
    const request = signed({ method: 'POST', body: '{"a":1}', headers: { 'x-amz-content-sha256': claimed } })
    expect(await send(request)).toMatchObject({
      name: 'InvalidSignatureException',
      message: expect.stringContaining('x-amz-content-sha256'),
    })
    const unsigned = signed({ headers: { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' } })
    expect((await send(unsigned)).name).toBe('InvalidSignatureException')
  })

  test('a date too old or too far ahead is told with both times', async () => {
    const offMs = LAMBDA_API_LIMITS.clockSkewMsMax + 60_000
    expect(await send(signed({ date: new Date(Date.now() - offMs) }))).toMatchObject({
      status: 403,
      name: 'InvalidSignatureException',
      message: expect.stringMatching(/^Signature expired: \d{8}T\d{6}Z is now earlier than \d{8}T\d{6}Z \(/),
    })
    expect(await send(signed({ date: new Date(Date.now() + offMs) }))).toMatchObject({
      name: 'InvalidSignatureException',
      message: expect.stringMatching(/^Signature not yet current: /),
    })
  })

  test.each([
    ['another service', { service: 's3' }, 'InvalidSignatureException', /correct service: 'lambda'/],
    ['another terminator', { term: 'aws5' }, 'InvalidSignatureException', /terminator/],
    ['another day in its scope', { scopeDate: '20200101' }, 'InvalidSignatureException', /Credential scope/],
    ['a host that is not signed', { signedHeaders: ['x-amz-date'] }, 'InvalidSignatureException', /Host/],
    ['another algorithm', { algorithm: 'AWS4-ECDSA' }, 'IncompleteSignatureException', /AWS4-HMAC-SHA256/],
    ['a session', { headers: { 'x-amz-security-token': 't' } }, 'UnrecognizedClientException', /token/],
  ] as const)('%s is refused', async (_what, change, name, message) => {
    const outcome = await send(signed(change))
    expect(outcome).toMatchObject({ status: 403, name })
    expect(outcome.message).toMatch(message)
  })

  test.each([
    ['Credential', /'Credential' parameter/],
    ['SignedHeaders', /'SignedHeaders' parameter/],
    ['Signature', /'Signature' parameter/],
  ])('a header without %s is incomplete, and says so', async (field, message) => {
    const { url, init } = signed()
    const authorization = (init.headers['authorization'] ?? '').replace(new RegExp(`${field}=[^,]*`), '')
    const outcome = await send({ url, init: withHeader(init, 'authorization', authorization) })
    expect(outcome).toMatchObject({ status: 403, name: 'IncompleteSignatureException' })
    expect(outcome.message).toMatch(message)
  })

  test.each([
    ['no date', { 'x-amz-date': '' }],
    ['a date that is none', { 'x-amz-date': '2026' }],
    [
      'half a credential',
      { authorization: 'AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=x' },
    ],
    ['nonsense', { authorization: 'AWS4-HMAC-SHA256 ====' }],
    ['nothing', { authorization: 'AWS4-HMAC-SHA256 ' }],
  ] as const)('%s is incomplete', async (_what, headers: Record<string, string>) => {
    const { url, init } = signed()
    const outcome = await send({ url, init: { ...init, headers: { ...init.headers, ...headers } } })
    expect(outcome).toMatchObject({ status: 403, name: 'IncompleteSignatureException' })
  })

  test('a signature that is no hex of the right length is a wrong one', async () => {
    const { url, init } = signed()
    const authorization = (init.headers['authorization'] ?? '').replace(/Signature=.*/, 'Signature=zz')
    const outcome = await send({ url, init: withHeader(init, 'authorization', authorization) })
    expect(outcome.name).toBe('InvalidSignatureException')
  })
})

function withHeader(init: RequestInit, name: string, value: string): RequestInit {
  return { ...init, headers: { ...(init.headers as Record<string, string>), [name]: value } }
}

function laterOf(init: RequestInit): string {
  const text = (init.headers as Record<string, string>)['x-amz-date'] ?? ''
  return text.replace(/\d\dZ$/, (end) => (end === '00Z' ? '01Z' : '00Z'))
}
