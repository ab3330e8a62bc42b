/**
 * The examples that run in containers, on a whole node and a real engine. Packages come from this repository: sharp is
 * copied, AWS's client is compiled once.
 */
import {
  GetFunctionEventInvokeConfigCommand,
  LambdaClient,
  PutFunctionEventInvokeConfigCommand,
} from '@aws-sdk/client-lambda'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { DeployResult } from '../sdk/model/control.ts'
import { AWS_CLIENT_INSTALL_MS, awsClientTest, installAwsClient } from './harness/aws-client.ts'
import { describeEngine } from './harness/engine.ts'
import { startTestNode, type TestNode } from './harness/node.ts'
import { removeNodeImages } from './harness/node-images.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const EXAMPLES = join(ROOT, 'examples')
const COVERED = ['aws-image', 'gallery', 'jobs', 'report', 'resize', 'server']

describeEngine('the examples in containers', () => {
  let node: TestNode
  const copies = mkdtempSync(join(tmpdir(), 'isola-examples-'))

  const copy = (name: string): string => {
    const directory = join(copies, name)
    cpSync(join(EXAMPLES, name), directory, {
      recursive: true,
      filter: (path) => !path.includes('node_modules'),
    })
    return directory
  }
  const deploy = async (directory: string): Promise<DeployResult> => {
    const { code, stdout, stderr } = await node.isola('deploy', directory, '--json')
    expect(code, stderr).toBe(0)
    return JSON.parse(stdout) as DeployResult
  }

  beforeAll(async () => {
    node = await startTestNode()
  })
  afterAll(async () => {
    const { leftBehind, exitCode } = await node.stop()
    await removeNodeImages(node.dataDirectory)
    rmSync(copies, { recursive: true, force: true })
    expect(leftBehind).toEqual([])
    expect(exitCode).toBe(0)
  })

  test('all are covered here', () => {
    const names = readdirSync(EXAMPLES, { withFileTypes: true }).filter((entry) => entry.isDirectory())
    const inContainers = names
      .map(({ name }) => name)
      .filter((name) => existsSync(join(EXAMPLES, name, 'isola.jsonc')) || name === 'gallery')
    expect(inContainers.toSorted()).toEqual(COVERED)
  })

  test('report makes JSON of CSV in Python, and logs with its request', async () => {
    expect(await deploy(copy('report'))).toMatchObject({ functionName: 'report' })
    expect((await node.fetch('report.localhost')).json()).toMatchObject({
      currency: 'EUR',
      sales: 4,
      total: 16,
    })
    const report = await node.fetch('report.localhost', '/', {
      method: 'POST',
      headers: { 'content-type': 'text/csv' },
      body: 'product,amount\nTürkış tea,1.5\nTürkış tea,2\n',
    })
    expect(report.status).toBe(200)
    expect(report.json()).toMatchObject({ sales: 2, products: { 'Türkış tea': 3.5 } })
    const refused = await node.fetch('report.localhost', '/', { method: 'POST', body: 'a,b\n1,2\n' })
    expect(refused.status).toBe(400)
    const { stdout } = await node.isola('logs', 'report', '--json')
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { message: string; requestId?: string })
    expect(lines.find(({ message }) => message === '2 sales of 1 products')?.requestId).toBeTruthy()
  })

  test('resize makes a real JPEG smaller, as the client and as an isolate behind a binding', async () => {
    const directory = copy('resize')
    copyPackages('sharp', directory)
    await deploy(directory)
    const picture = await sharp({ create: { width: 900, height: 600, channels: 3, background: '#c03030' } })
      .jpeg()
      .toBuffer()
    const small = await node.fetch('resize.localhost', '/?width=300', {
      method: 'POST',
      headers: { 'content-type': 'image/jpeg' },
      body: picture,
    })
    expect(small.status).toBe(200)
    expect(small.headers['content-type']).toBe('image/jpeg')
    expect(await sharp(small.body).metadata()).toMatchObject({ format: 'jpeg', width: 300, height: 200 })
    const { channels } = await sharp(small.body).stats()
    expect(Math.round(channels[0]?.mean ?? 0)).toBeGreaterThan(180)
    expect((await node.fetch('resize.localhost', '/?format=webp')).headers['content-type']).toBe('image/webp')
    for (const [path, body] of [
      ['/?width=x', picture],
      ['/', 'no picture'],
    ] as const) {
      const refused = await node.fetch('resize.localhost', path, { method: 'POST', body })
      expect(refused.status, refused.text()).toBe(400)
    }
    await deploy(join(EXAMPLES, 'gallery'))
    expect((await node.fetch('gallery.localhost')).text()).toContain('<img src="/240.jpeg"')
    const through = await node.fetch('gallery.localhost', '/240.jpeg')
    expect(through.headers['cache-control']).toBe('public, max-age=3600')
    expect(await sharp(through.body).metadata()).toMatchObject({ format: 'jpeg', width: 240, height: 160 })
    expect((await node.fetch('gallery.localhost', '/7.jpeg')).status).toBe(404)
  })

  test('server is an HTTP server of its own: streams, many requests at a time, a /tmp', async () => {
    await deploy(copy('server'))
    const { port } = new URL(node.httpUrl)
    expect((await node.fetch('server.localhost')).json()).toMatchObject({ host: `server.localhost:${port}` })
    const counted = await node.fetch('server.localhost', '/count?to=3')
    expect(counted.text()).toBe('1\n2\n3\n')
    expect(counted.headers).not.toHaveProperty('content-length')
    const all = await Promise.all(
      Array.from({ length: 8 }, () => node.fetch('server.localhost', '/count?to=10')),
    )
    expect(all.map(({ status }) => status)).toEqual(Array(8).fill(200))
    const noted = await node.fetch('server.localhost', '/notes', { method: 'POST', body: 'one' })
    expect(noted.json()).toEqual({ noted: 'one' })
    expect((await node.fetch('server.localhost', '/nowhere')).status).toBe(404)
  })

  awsClientTest(
    "aws-image runs AWS's own client, unmodified",
    async () => {
      const directory = copy('aws-image')
      cpSync(join(await installAwsClient(), 'node_modules'), join(directory, 'node_modules'), {
        recursive: true,
      })
      await deploy(directory)
      const first = (await node.fetch('aws-image.localhost', '/a?b=c')).json()
      expect(first).toMatchObject({
        path: '/a',
        client: '/var/runtime/node_modules/aws-lambda-ric/index.mjs',
        requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      })
      expect((await node.fetch('aws-image.localhost', '/again')).json()).toMatchObject({ path: '/again' })
    },
    AWS_CLIENT_INSTALL_MS,
  )

  test('jobs are worked on behind the back of who asked, and a torn one is a dead letter', async () => {
    await deploy(copy('jobs'))
    const { stdout } = await node.isola('invoke', 'jobs', '--payload', '{"pages": 2, "pageMs": 1}', '--json')
    expect(JSON.parse(stdout)).toMatchObject({ result: { pages: 2 } })
    // Tried once only: the pauses between tries are minutes.
    const client = await lambdaClient(node)
    const setting = { FunctionName: 'jobs', MaximumRetryAttempts: 0 }
    await client.send(new PutFunctionEventInvokeConfigCommand(setting))
    const { FunctionName: _name, ...kept } = setting
    expect(
      await client.send(new GetFunctionEventInvokeConfigCommand({ FunctionName: 'jobs' })),
    ).toMatchObject(kept)
    const run = (payload: string) => node.isola('invoke', 'jobs', '--async', '--payload', payload)
    expect((await run('{"pages": 3, "pageMs": 1}')).code).toBe(0)
    expect((await run('{"pages": 3, "pageMs": 1, "tornAt": 2}')).code).toBe(0)
    await expect
      .poll(async () => (await node.isola('logs', 'jobs')).stdout.match(/\bdone\b/g)?.length, WAIT)
      .toBe(2)
    await expect
      .poll(async () => (await node.isola('dead-letters', 'jobs')).stdout, WAIT)
      .toContain('page 2 is torn')
    client.destroy()
  })
})

const WAIT = { timeout: 30_000, interval: 200 }

/** A package of this repository and all it needs, into a directory's own `node_modules`. */
function copyPackages(name: string, directory: string): void {
  const from = join(ROOT, 'node_modules', name)
  const to = join(directory, 'node_modules', name)
  // Of packages for other machines there is none.
  if (existsSync(to) || !existsSync(from)) return
  cpSync(from, to, { recursive: true })
  const { dependencies, optionalDependencies } = JSON.parse(
    readFileSync(join(from, 'package.json'), 'utf8'),
  ) as Record<'dependencies' | 'optionalDependencies', Record<string, string> | undefined>
  for (const needed of Object.keys({ ...dependencies, ...optionalDependencies })) {
    copyPackages(needed, directory)
  }
}

async function lambdaClient(node: TestNode): Promise<LambdaClient> {
  const { stdout, stderr } = await node.isola('keys', 'create', '--json')
  expect(stderr).toBe('')
  const { accessKeyId, secretAccessKey } = JSON.parse(stdout) as {
    accessKeyId: string
    secretAccessKey: string
  }
  return new LambdaClient({
    region: 'us-east-1',
    endpoint: node.controlUrl,
    credentials: { accessKeyId, secretAccessKey },
  })
}
