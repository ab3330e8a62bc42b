import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isAlive, ISOLA_BIN, runIsola } from '../harness/node.ts'

interface DevEvent {
  readonly event: string
  readonly url?: string
  readonly error?: { readonly code: string; readonly message: string }
}

interface Dev {
  readonly child: ChildProcess
  readonly url: string
  /** The next event that was not read yet. */
  next(): Promise<DevEvent>
  stderr(): string
  readonly exited: Promise<number | null>
}

let directory: string
let running: { readonly child: ChildProcess; readonly exited: Promise<unknown> }[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'isola-dev-'))
  writeFileSync(
    join(directory, 'wrangler.json'),
    JSON.stringify({ name: 'd', main: 'index.ts', compatibility_date: '2026-11-01', vars: { WHO: 'dev' } }),
  )
})
afterEach(async () => {
  // Not SIGKILL: miniflare's workerd would outlive it.
  for (const { child, exited } of running) {
    child.kill('SIGTERM')
    await exited
  }
  running = []
  rmSync(directory, { recursive: true, force: true })
})

const write = (source: string): void => writeFileSync(join(directory, 'index.ts'), source)
const answering = (text: string): string =>
  `export default { fetch(request: Request, env: { WHO: string }) { return new Response(${JSON.stringify(text)} + ' ' + env.WHO) } }`

async function startDev(): Promise<Dev> {
  const child = spawn(ISOLA_BIN, ['dev', directory, '--port', '0', '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const exited = new Promise<number | null>((resolve) => child.on('exit', resolve))
  running.push({ child, exited })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<DevEvent> => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error(`isola dev ended:\n${stderr}`)
    return JSON.parse(value) as DevEvent
  }
  const { event, url } = await next()
  expect(event).toBe('ready')
  return { child, url: url ?? '', next, stderr: () => stderr, exited }
}

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/stat`, 'utf8')
          .replace(/^.*\) \S+ /s, '')
          .startsWith(`${pid} `)
      } catch {
        return false
      }
    })
    .map(Number)
}

describe('isola dev', () => {
  test('a script of the service-worker format finds its bindings as global variables', async () => {
    const config = {
      name: 'd',
      main: 'index.ts',
      compatibility_date: '2026-11-01',
      vars: { WHO: 'dev' },
      version_metadata: { binding: 'META' },
      ratelimits: [{ name: 'LIMIT', namespace_id: '1', simple: { limit: 1, period: 60 } }],
    }
    writeFileSync(join(directory, 'wrangler.json'), JSON.stringify(config))
    write(`const who = WHO
      addEventListener('fetch', (event) => event.respondWith(LIMIT.limit({ key: 'x' }).then(({ success }) =>
        Response.json([who, META.id.length, success]))))`)
    const dev = await startDev()
    expect(await (await fetch(dev.url)).json()).toEqual(['dev', 36, true])
    expect(await (await fetch(dev.url)).json()).toEqual(['dev', 36, false])
  })

  test('a service binding to the function itself works, and one to another says that it is not here', async () => {
    writeFileSync(
      join(directory, 'wrangler.json'),
      JSON.stringify({
        name: 'd',
        main: 'index.ts',
        compatibility_date: '2026-11-01',
        services: [
          { binding: 'SELF', service: 'd' },
          { binding: 'STOCK', service: 'stock' },
        ],
      }),
    )
    write(`export default { fetch: (request, env) => new URL(request.url).pathname === '/inner'
      ? new Response('itself')
      : env[request.headers.get('x-binding')].fetch('http://any.host/inner') }`)
    const { url } = await startDev()
    const ask = (binding: string): Promise<Response> => fetch(url, { headers: { 'x-binding': binding } })
    expect(await (await ask('SELF')).text()).toBe('itself')
    const absent = await ask('STOCK')
    expect(absent.status).toBe(404)
    expect(await absent.json()).toMatchObject({
      error: {
        code: 'function_not_found',
        message: expect.stringContaining('"stock" is not here') as string,
      },
    })
  })

  test('answers as the function, reloads on a change, and ends with nothing left on Ctrl-C', async () => {
    write(answering('first'))
    const dev = await startDev()
    const response = await fetch(dev.url)
    expect(await response.text()).toBe('first dev')
    expect(response.headers.get('x-request-id')).toMatch(/^[\w.:-]{8,}$/)

    write(answering('second'))
    expect((await dev.next()).event).toBe('reloaded')
    expect(await (await fetch(dev.url)).text()).toBe('second dev')

    const children = childrenOf(dev.child.pid ?? 0)
    expect(children.length).toBeGreaterThan(0)
    dev.child.kill('SIGINT')
    expect(await dev.exited).toBe(0)
    expect(children.filter((pid) => isAlive(pid))).toEqual([])
  })

  test('what does not build or does not start is shown, and the last good version goes on', async () => {
    write(answering('good'))
    const dev = await startDev()
    write('export default {')
    expect((await dev.next()).error).toMatchObject({
      code: 'build_failed',
      message: expect.stringContaining('index.ts:1:'),
    })
    expect(await (await fetch(dev.url)).text()).toBe('good dev')
    write('throw new Error("at load"); export default { fetch() { return new Response() } }')
    expect((await dev.next()).error).toMatchObject({
      code: 'start_failed',
      message: expect.stringContaining('at load'),
    })
    expect(await (await fetch(dev.url)).text()).toBe('good dev')
    write(answering('better'))
    expect((await dev.next()).event).toBe('reloaded')
    expect(await (await fetch(dev.url)).text()).toBe('better dev')
  })

  test('a throw is answered as on a node, and its stack is on the terminal', async () => {
    write('export default { fetch() { console.log("before", { a: 1 }); throw new TypeError("oops") } }')
    const dev = await startDev()
    const response = await fetch(dev.url)
    expect(response.status).toBe(500)
    const { error } = (await response.json()) as { error: { code: string; requestId: string } }
    expect(error).toMatchObject({ code: 'function_threw', requestId: response.headers.get('x-request-id') })
    // The terminal is a pipe of its own: the answer may come before it.
    await expect.poll(() => dev.stderr(), { timeout: 20_000 }).toMatch(/^TypeError: oops\n {4}at /m)
    expect(dev.stderr()).toContain('before { a: 1 }\n')
  })

  test('a stack on the terminal has the places of the sources and no frames of isola', async () => {
    write('// shifts what follows\n\nexport default { fetch() {\n  throw new TypeError("oops") } }')
    const dev = await startDev()
    expect((await fetch(dev.url)).status).toBe(500)
    await expect.poll(() => dev.stderr(), { timeout: 20_000 }).toMatch(/ {4}at .*\(index\.(?:js|ts):4:9\)/)
    expect(dev.stderr()).not.toMatch(/__isola_|file:/)
  })

  test('a first build that fails is exit code 1, and so is a taken port', async () => {
    write('export default {')
    expect((await runIsola(['dev', directory, '--port', '0'])).code).toBe(1)
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const { code, stderr } = await runIsola(['dev', directory, '--port', String(port)])
    server.close()
    expect(code).toBe(1)
    expect(stderr).toContain(`cannot listen on 127.0.0.1:${port}`)
  })
})
