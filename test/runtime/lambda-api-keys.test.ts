/** Access keys: their file, `/v1/keys`, and `isola keys`. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openAccessKeys } from '../../runtime/lambda-api/access-keys.ts'
import { runCommandLine } from '../../sdk/cli/run.ts'
import type { NewAccessKey } from '../../sdk/model/lambda.ts'
import { LAMBDA_API_LIMITS } from '../../sdk/model/limits.ts'
import { openControlPlace } from '../harness/control-place.ts'
import { openLambdaPlace, TOKEN, type LambdaPlace } from './lambda-api-place.ts'

describe('the file of keys', () => {
  let directory: string
  let path: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'isola-keys-'))
    path = join(directory, 'keys.json')
  })
  afterEach(() => rm(directory, { recursive: true }))

  test('keeps keys over restarts, and from other users', async () => {
    const keys = await openAccessKeys(path)
    expect(keys.list()).toEqual([])
    const key = await keys.create({ description: 'ci' })
    expect(key.accessKeyId).toMatch(/^AKISOLA[A-Z2-7]{13}$/)
    expect(key.secretAccessKey).toHaveLength(40)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    const again = await openAccessKeys(path)
    expect(again.secretOf(key.accessKeyId)).toBe(key.secretAccessKey)
    expect(again.list()).toEqual([
      { accessKeyId: key.accessKeyId, description: 'ci', createdAt: key.createdAt },
    ])
    expect(await again.delete(key.accessKeyId)).toBe(true)
    expect(await again.delete(key.accessKeyId)).toBe(false)
    expect(again.secretOf(key.accessKeyId)).toBeUndefined()
    expect((await openAccessKeys(path)).list()).toEqual([])
  })

  test('loses none of those that are made at the same time, and has a bound', async () => {
    const keys = await openAccessKeys(path)
    const wanted = LAMBDA_API_LIMITS.keysMax + 1
    const made = await Promise.allSettled(
      Array.from({ length: wanted }, (_, index) => keys.create({ description: String(index) })),
    )
    expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(LAMBDA_API_LIMITS.keysMax)
    expect(made.at(-1)).toMatchObject({ status: 'rejected', reason: { code: 'conflict' } })
    expect((await openAccessKeys(path)).list()).toHaveLength(LAMBDA_API_LIMITS.keysMax)
    await expect(keys.create({ description: 'x'.repeat(1_001) })).rejects.toMatchObject({
      code: 'invalid_argument',
    })
  })

  test.each(['{', '[]', '{"keys":[{"accessKeyId":1}]}'])(
    'that holds %s is refused, not replaced',
    async (text) => {
      await writeFile(path, text)
      await expect(openAccessKeys(path)).rejects.toMatchObject({ code: 'data_unusable' })
      expect(await readFile(path, 'utf8')).toBe(text)
    },
  )

  test('that cannot be written keeps what there is', async () => {
    const keys = await openAccessKeys(join(directory, 'no', 'keys.json'))
    await expect(keys.create({ description: '' })).rejects.toThrow('ENOENT')
    expect(keys.list()).toEqual([])
  })
})

describe('isola keys', () => {
  let place: LambdaPlace
  beforeEach(async () => {
    place = await openLambdaPlace()
  })
  afterEach(() => place.close())

  async function isola(...argv: readonly string[]) {
    let stdout = ''
    let stderr = ''
    const never = new AbortController().signal
    const code = await runCommandLine({
      argv: ['keys', ...argv],
      environment: { ISOLA_CONTROL_URL: place.url, ISOLA_TOKEN: TOKEN },
      workingDirectory: '/',
      streams: {
        stdout: { write: (text: string) => (stdout += text) },
        stderr: { write: (text: string) => (stderr += text) },
      },
      stop: never,
      stopNow: never,
      readerGone: never,
    })
    return { code, stdout, stderr }
  }

  test('makes a key that works at once, in a form for the shell, and shows its secret only then', async () => {
    const { code, stdout } = await isola('create', '--description', 'laptop')
    expect(code).toBe(0)
    const values = Object.fromEntries(
      [...stdout.matchAll(/^export (\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
    )
    expect(values['AWS_ENDPOINT_URL_LAMBDA']).toBe(place.url)
    // One for the SDK for JavaScript, one for boto3: neither reads the other's.
    expect(values).toMatchObject({ AWS_REGION: 'us-east-1', AWS_DEFAULT_REGION: 'us-east-1' })
    const secretAccessKey = values['AWS_SECRET_ACCESS_KEY'] ?? ''
    expect(place.ports.keys.secretOf(values['AWS_ACCESS_KEY_ID'] ?? '')).toBe(secretAccessKey)
    const listed = await isola('list')
    expect(listed.stdout).toContain('laptop')
    expect(listed.stdout).not.toContain(secretAccessKey)
    expect((await isola('list', '--json')).stdout).not.toContain(secretAccessKey)
  })

  test('deletes one, and says where there is none', async () => {
    const { stdout } = await isola('create', '--json')
    const { accessKeyId } = JSON.parse(stdout) as NewAccessKey
    expect(await isola('delete', accessKeyId)).toMatchObject({ code: 0, stderr: '' })
    expect(place.ports.keys.secretOf(accessKeyId)).toBeUndefined()
    const again = await isola('delete', accessKeyId)
    expect(again.code).not.toBe(0)
    expect(again.stderr).toContain(`there is no access key "${accessKeyId}"`)
  })

  test.each([[['delete']], [['create', 'x']], [['show']]])('%j is no use of it', async (argv) => {
    expect((await isola(...argv)).stderr).toContain('isola keys needs one of')
  })

  test('a node without a Lambda API says that it has none', async () => {
    const other = await openControlPlace()
    const response = await other.call('GET', '/v1/keys')
    expect(response.status).toBe(404)
    expect(await response.text()).toContain('no Lambda API')
    await other.close()
  })

  test('a field that is not known is refused', async () => {
    const headers = { authorization: `Bearer ${TOKEN}` }
    const response = await fetch(`${place.url}/v1/keys`, { method: 'POST', headers, body: '{"name":"x"}' })
    expect(response.status).toBe(400)
  })
})
