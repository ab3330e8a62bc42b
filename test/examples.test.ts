import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { get, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { DeployResult } from '../sdk/model/control.ts'
import { isAlive, runIsola, startTestNode, type TestNode } from './harness/node.ts'
import { removeNodeImages } from './harness/node-images.ts'

const EXAMPLES = fileURLToPath(new URL('../examples', import.meta.url))
/** Those that need no container engine; `examples-container.test.ts` has the others. */
const names = readdirSync(EXAMPLES, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== 'gallery')
  .map(({ name }) => name)
  .filter((name) => existsSync(join(EXAMPLES, name, 'wrangler.jsonc')))

describe('the examples', () => {
  let node: TestNode

  beforeAll(async () => {
    node = await startTestNode()
    for (const name of names) {
      const { code, stdout, stderr } = await node.isola('deploy', join(EXAMPLES, name), '--json')
      expect(code, stderr).toBe(0)
      const result = JSON.parse(stdout) as DeployResult
      expect(result.functionName).toBe(name)
      expect(result.urls).toHaveLength(name === 'edge' ? 0 : 1)
    }
  })
  afterAll(async () => {
    const { leftBehind, exitCode } = await node.stop()
    expect(leftBehind).toEqual([])
    expect(exitCode).toBe(0)
  })

  test('all are covered here', () => {
    expect(names.toSorted()).toEqual(['api', 'edge', 'hello', 'site', 'stream', 'wasm', 'websocket'])
  })

  test('hello answers with what was asked for', async () => {
    const response = await node.fetch('hello.localhost', '/there')
    expect(response.status).toBe(200)
    expect(response.text()).toBe('Hello from isola! You asked for /there\n')
  })

  test('api routes, reads parameters and bodies, and knows what it does not have', async () => {
    expect((await node.fetch('api.localhost', '/')).json()).toMatchObject({ message: 'Welcome' })
    const books = (await node.fetch('api.localhost', '/books?before=1800')).json()
    expect(books).toEqual({ books: [{ id: 3, title: 'Utopia', year: 1516 }] })
    expect((await node.fetch('api.localhost', '/books/9')).status).toBe(404)
    const echoed = await node.fetch('api.localhost', '/echo', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"a":1}',
    })
    expect(echoed.status).toBe(201)
    expect(echoed.json()).toEqual({ received: { a: 1 } })
    expect((await node.fetch('api.localhost', '/nowhere')).json()).toEqual({ error: 'no route GET /nowhere' })
  })

  test('edge rewrites the page of the site behind its route, and leaves the site alone', async () => {
    const { port } = new URL(node.httpUrl)
    const added = await node.isola(
      'routes',
      'add',
      'www.localhost/*',
      'edge',
      '--origin',
      `http://site.localhost:${port}`,
    )
    expect(added.code, added.stderr).toBe(0)
    const page = await node.fetch('www.localhost')
    expect(page.status).toBe(200)
    expect(page.headers['x-edge']).toBe('isola')
    expect(page.text()).toContain('<h1>A plain site, seen from the edge</h1>')
    expect(page.text()).toContain('<a href="https://example.com/">')
    const plain = await node.fetch('site.localhost')
    expect(plain.text()).toContain('<h1>A plain site</h1>')
    expect(plain.headers).not.toHaveProperty('x-edge')
    expect((await node.fetch('www.localhost', '/missing')).status).toBe(404)
    expect((await node.fetch('edge.localhost')).status).toBe(404)
  })

  test('stream sends each line when it is there, and stops making lines when nobody reads', async () => {
    const { hostname, port } = new URL(node.httpUrl)
    const options = { hostname, port, headers: { host: `stream.localhost:${port}` }, agent: false }
    // The second line comes ten seconds later, and would be in the same chunk if anything had waited for it.
    await new Promise<void>((resolve, reject) => {
      const outgoing = get({ ...options, path: '/?lines=1000&pauseMs=10000' }, (incoming) => {
        incoming.once('data', (chunk: Buffer) => {
          expect(chunk.toString()).toBe('line 1 of 1000\n')
          outgoing.destroy()
          resolve()
        })
      })
      outgoing.on('error', reject)
    })
    const whole = await node.fetch('stream.localhost', '/?lines=3&pauseMs=20')
    expect(whole.text()).toBe('line 1 of 3\nline 2 of 3\nline 3 of 3\n')
    expect(whole.headers).not.toHaveProperty('content-length')
  })

  test('websocket echoes text and bytes, and shows a page to a browser', async () => {
    expect((await node.fetch('websocket.localhost')).text()).toContain('new WebSocket(')
    const { hostname, port } = new URL(node.httpUrl)
    const socket = new WebSocket(`ws://${hostname}:${port}/`, {
      headers: { host: `websocket.localhost:${port}` },
    })
    const message = (): Promise<Buffer> => new Promise((resolve) => socket.once('message', resolve))
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
    socket.send('hello')
    expect((await message()).toString()).toBe('hello')
    socket.send(Buffer.from([0, 1, 255]))
    expect(await message()).toEqual(Buffer.from([0, 1, 255]))
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.close(1000)
    expect(await closed).toBe(1000)
  })

  test('wasm computes', async () => {
    expect((await node.fetch('wasm.localhost', '/?n=90')).json()).toEqual({
      n: 90,
      fibonacci: '2880067194370816120',
    })
    expect((await node.fetch('wasm.localhost', '/?n=93')).status).toBe(400)
  })
})

describe('npm start', () => {
  const dataDirectory = mkdtempSync(join(tmpdir(), 'isola-start-'))
  afterAll(async () => {
    await removeNodeImages(dataDirectory)
    rmSync(dataDirectory, { recursive: true, force: true })
  })
  const running: { readonly child: ChildProcess; readonly exited: Promise<unknown> }[] = []
  // A failed test must not leave its node behind.
  afterEach(async () => {
    for (const { child, exited } of running.splice(0)) {
      child.kill('SIGTERM')
      await exited
    }
  })

  const startExamples = (...flags: readonly string[]) => {
    const child = spawn(process.execPath, [join(EXAMPLES, 'start.ts'), ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stderr = ''
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    const exited = new Promise<number | null>((resolve) => child.on('close', resolve))
    running.push({ child, exited })
    return { child, exited, stderr: () => stderr }
  }

  test('starts a node, deploys every example, prints URLs that answer, and ends with it', async () => {
    // Twice on the same data: the second finds everything there already.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const { child, exited, stderr } = startExamples(
        '--http',
        '127.0.0.1:0',
        '--control',
        '127.0.0.1:0',
        '--data',
        dataDirectory,
      )
      const urls: string[] = []
      for await (const line of createInterface({ input: child.stdout })) {
        const url = /^ {2}(http:\S+) /.exec(line)?.[1]
        if (url !== undefined) urls.push(url)
        if (line.startsWith('Ctrl-C')) break
      }
      expect(urls.length, stderr()).toBeGreaterThanOrEqual(names.length)
      for (const url of urls) expect(await statusOf(url), url).toBe(200)
      const { stdout } = await runIsola(['status', '--data', dataDirectory, '--json'])
      const { processes } = JSON.parse(stdout) as { processes: { pid: number }[] }
      expect(processes.length).toBeGreaterThan(names.length)
      child.kill(signal)
      expect(await exited, stderr()).toBe(0)
      expect(processes.filter(({ pid }) => isAlive(pid))).toEqual([])
    }
  }, 300_000)

  test('says of each example in a container why it is left out where there is no engine', async () => {
    const { child, exited, stderr } = startExamples(
      '--http=127.0.0.1:0',
      '--control=127.0.0.1:0',
      `--data=${join(dataDirectory, 'without-engine')}`,
      `--engine-socket=${join(dataDirectory, 'no-engine.sock')}`,
    )
    const left: string[] = []
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.startsWith('left out')) left.push(line)
      if (line.startsWith('Ctrl-C')) break
    }
    expect(
      left.map((line) => line.split(' ')[2]),
      stderr(),
    ).toEqual(['report', 'server', 'resize', 'gallery', 'aws-image', 'jobs'])
    expect(left[0]).toContain('container engine')
    expect(left[3]).toContain('it calls "resize", which is not there')
    child.kill('SIGTERM')
    expect(await exited, stderr()).toBe(0)
  }, 120_000)

  test('a node that cannot start ends it with the same code and message', async () => {
    const { child, exited, stderr } = startExamples('--http', 'nonsense')
    let stdout = ''
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    expect(await exited).toBe(2)
    expect(stderr()).toContain('--http is "nonsense"')
    // Said once: not again as the JSON that the node writes for programs.
    expect(stdout).toBe('')
  })
})

/** `*.localhost` is the loopback for browsers and curl, but not for every resolver. */
function statusOf(url: string): Promise<number | undefined> {
  const { host, port, pathname, search } = new URL(url)
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { hostname: '127.0.0.1', port, path: pathname + search, headers: { host }, agent: false },
      (incoming) => {
        resolve(incoming.statusCode)
        incoming.destroy()
      },
    )
    outgoing.on('error', reject)
    outgoing.end()
  })
}
