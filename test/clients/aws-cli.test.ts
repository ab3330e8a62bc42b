/**
 * The AWS CLI as distributions ship it. It signs in its own way (no hash of the body in a header), writes paths in its own
 * way (a slash at the end), and prints what people see. Where it is missing these tests are skipped by name; in CI they fail.
 */
import { execFile, execFileSync } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { NewAccessKey } from '../../sdk/model/lambda.ts'
import { LAMBDA_HEADERS } from '../../runtime/lambda/wire.ts'
import { answerOf, HANDLER, openLambdaPlace, zipOf, type LambdaPlace } from '../runtime/lambda-api-place.ts'

const isInstalled = hasCommand()
const cliTest = isInstalled || process.env['CI'] !== undefined ? test : test.skip

function hasCommand(): boolean {
  try {
    execFileSync('aws', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

let place: LambdaPlace
let archive: string
beforeAll(async () => {
  place = await openLambdaPlace()
  archive = join(place.directory, 'code.zip')
  await writeFile(archive, await zipOf(HANDLER))
})
afterAll(() => place.close())

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const aws = (...words: readonly string[]): Promise<Outcome> => awsAs(place.key, ...words)

function awsAs(key: NewAccessKey, ...words: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(
      'aws',
      ['--endpoint-url', place.url, '--output', 'json', 'lambda', ...words],
      {
        cwd: place.directory,
        env: {
          PATH: process.env['PATH'],
          HOME: place.directory,
          AWS_ACCESS_KEY_ID: key.accessKeyId,
          AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
          AWS_DEFAULT_REGION: 'eu-central-1',
          AWS_PAGER: '',
        },
      },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    )
  })
}

async function document(...words: readonly string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await aws(...words)
  expect([code, stderr]).toEqual([0, ''])
  return JSON.parse(stdout || '{}') as Record<string, unknown>
}

describe('the AWS CLI', () => {
  cliTest(
    'makes a function, waits for it, calls it, and takes it away',
    async () => {
      const name = ['--function-name', 'hello']
      const role = ['--role', 'arn:aws:iam::000000000000:role/any']
      const code = [
        '--runtime',
        'nodejs24.x',
        '--handler',
        'index.handler',
        '--zip-file',
        `fileb://${archive}`,
      ]
      const made = await document('create-function', ...name, ...code, ...role)
      expect(made).toMatchObject({
        FunctionArn: 'arn:aws:lambda:eu-central-1:000000000000:function:hello',
        State: 'Active',
      })
      expect(await aws('wait', 'function-active-v2', ...name)).toMatchObject({ code: 0, stderr: '' })

      const out = join(place.directory, 'out.json')
      place.node.invoke = async ({ payload }) =>
        answerOf(payload, { headers: { [LAMBDA_HEADERS.functionError]: 'Unhandled' } })
      await writeFile(join(place.directory, 'event.json'), '{"n": 1}')
      const event = ['--payload', `fileb://${join(place.directory, 'event.json')}`]
      expect(await document('invoke', ...name, ...event, out)).toEqual({
        StatusCode: 200,
        FunctionError: 'Unhandled',
        ExecutedVersion: '$LATEST',
      })
      expect(await readFile(out, 'utf8')).toBe('{"n": 1}')
      expect(await document('invoke', ...name, '--invocation-type', 'Event', ...event, out)).toMatchObject({
        StatusCode: 202,
      })
      expect(place.enqueued).toHaveLength(1)

      const update = await document('update-function-configuration', ...name, '--timeout', '7')
      expect(update).toMatchObject({ Timeout: 7, LastUpdateStatus: 'Successful' })
      const { Functions } = await document('list-functions')
      expect(Functions).toMatchObject([{ FunctionName: 'hello', Timeout: 7 }])
      expect(await document('create-function-url-config', ...name, '--auth-type', 'NONE')).toMatchObject({
        FunctionUrl: 'http://hello.localhost:8080/',
      })
      expect(await document('publish-version', ...name)).toMatchObject({ Version: '1' })
      await document('delete-function', ...name)
      expect(await document('list-functions')).toEqual({ Functions: [] })
      // Each call starts Python anew, for a second or two of this machine.
    },
    180_000,
  )

  cliTest('prints errors by name, with the operation and what to do', async () => {
    expect((await aws('get-function', '--function-name', 'nobody')).stderr).toContain(
      'An error occurred (ResourceNotFoundException) when calling the GetFunction operation: Function not found: arn:aws:lambda:eu-central-1:000000000000:function:nobody',
    )
    expect((await aws('get-policy', '--function-name', 'nobody')).stderr).toContain(
      'An error occurred (UnsupportedOperationException) when calling the GetPolicy operation: GetPolicy is not supported by isola',
    )
    const key = await place.ports.keys.create({ description: 'soon gone' })
    await place.ports.keys.delete(key.accessKeyId)
    expect((await awsAs(key, 'list-functions')).stderr).toContain(
      'An error occurred (UnrecognizedClientException) when calling the ListFunctions operation: The security token included in the request is invalid.',
    )
  })
})
