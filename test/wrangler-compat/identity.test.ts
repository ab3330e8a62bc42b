import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { execFile } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { TOKEN } from '../harness/control-place.ts'
import { runIsola } from '../harness/node.ts'
import { openWranglerPlace, type WranglerPlace } from '../harness/wrangler-place.ts'

let place: WranglerPlace

beforeEach(async () => {
  place = await openWranglerPlace()
})
afterEach(() => place.close())

describe('who a token is', () => {
  test('the node’s token is active, and has one account, of which it is a member', async () => {
    expect((await place.call('GET', '/user/tokens/verify')).result).toMatchObject({ status: 'active' })
    expect((await place.call('GET', '/user')).result.email).toBe('isola@localhost')
    const accounts = await place.call('GET', '/accounts?page=1')
    expect(accounts.result).toMatchObject([{ id: 'isola', name: 'isola' }])
    const memberships = await place.call('GET', '/memberships?page=1')
    expect(memberships.result).toMatchObject([
      { account: { id: 'isola' }, roles: [expect.stringContaining('Administrator')] },
    ])
    expect((await place.call('GET', '/accounts/isola')).result).toMatchObject({ id: 'isola' })
  })

  test('a page after the last is empty, so that clients stop', async () => {
    for (const path of ['/accounts', '/memberships', '/accounts/isola/storage/kv/namespaces']) {
      expect((await place.call('GET', `${path}?page=2`)).result, path).toEqual([])
    }
  })

  test.each(['/user/tokens/verify', '/user', '/accounts', '/memberships', '/nothing/of/that/name'])(
    'a wrong token is refused at %s, with the code that wrangler knows and where the right one is',
    async (path) => {
      const answer = await place.call('GET', path, undefined, { headers: { authorization: 'Bearer wrong' } })
      expect(answer).toMatchObject({
        status: 401,
        success: false,
        errors: [{ code: path.startsWith('/nothing') ? 10000 : 9109 }],
      })
      expect(answer.errors[0]?.message).toContain('isola wrangler-env')
    },
  )

  test('another account is refused, and the right one named', async () => {
    const answer = await place.call('GET', '/accounts/0123456789abcdef/workers/subdomain')
    expect(answer).toMatchObject({ status: 403, errors: [{ code: 10000 }] })
    expect(answer.errors[0]?.message).toContain('CLOUDFLARE_ACCOUNT_ID=isola')
  })

  test('figures over GraphQL are refused by name', async () => {
    const answer = await place.call('POST', '/graphql', { query: '{viewer{accounts{id}}}' })
    expect(answer).toMatchObject({ status: 404, success: false })
    expect(answer.errors[0]?.message).toContain('/metrics')
  })
})

describe('isola wrangler-env', () => {
  let directory: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'isola-wrangler-env-'))
  })
  afterEach(() => rm(directory, { recursive: true }))

  const control = ['--control', 'http://127.0.0.1:8081/', '--token', TOKEN]

  test('prints what a shell can evaluate', async () => {
    const { code, stdout } = await runIsola([
      'wrangler-env',
      '--control',
      'http://127.0.0.1:8081',
      '--token',
      "it's",
    ])
    expect(code).toBe(0)
    const script = `${stdout}\nprintf '%s|' "$CLOUDFLARE_API_BASE_URL" "$CLOUDFLARE_API_TOKEN" "$CLOUDFLARE_ACCOUNT_ID" "$WRANGLER_SEND_METRICS"`
    const shell = await promisify(execFile)('sh', ['-c', script], { env: {} })
    expect(shell.stdout).toBe("http://127.0.0.1:8081/client/v4|it's|isola|false|")
  })

  test('prints the lines of a .env file', async () => {
    const { stdout } = await runIsola(['wrangler-env', '--dotenv', ...control])
    expect(stdout).toBe(
      `CLOUDFLARE_API_BASE_URL=http://127.0.0.1:8081/client/v4\nCLOUDFLARE_API_TOKEN=${TOKEN}\nCLOUDFLARE_ACCOUNT_ID=isola\nWRANGLER_SEND_METRICS=false\n`,
    )
  })

  test('finds the node of a data directory, with its token', async () => {
    await writeFile(
      join(directory, 'node.json'),
      JSON.stringify({ pid: process.pid, controlUrl: 'http://127.0.0.1:4711' }),
    )
    await writeFile(join(directory, 'token'), `${TOKEN}\n`)
    const { stdout } = await runIsola(['wrangler-env', '--json', '--data', directory])
    expect(JSON.parse(stdout)).toEqual({
      CLOUDFLARE_API_BASE_URL: 'http://127.0.0.1:4711/client/v4',
      CLOUDFLARE_API_TOKEN: TOKEN,
      CLOUDFLARE_ACCOUNT_ID: 'isola',
      WRANGLER_SEND_METRICS: 'false',
    })
  })

  test('without a node it prints nothing to evaluate, and says how to start one', async () => {
    const { code, stdout, stderr } = await runIsola(['wrangler-env', '--data', directory])
    expect(code).toBe(3)
    expect(stdout).toBe('')
    expect(stderr).toContain('isola up')
  })
})
