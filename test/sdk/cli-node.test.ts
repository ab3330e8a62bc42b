import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DeployResult, PolicyView, VersionSummary } from '../../sdk/model/control.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import type { NodeStatus } from '../../sdk/model/node-status.ts'
import {
  type CommandOutcome,
  isAlive,
  ISOLA_BIN,
  runIsola,
  startTestNode,
  type TestNode,
} from '../harness/node.ts'

let node: TestNode
let sources: string

beforeAll(async () => {
  sources = mkdtempSync(join(tmpdir(), 'isola-sources-'))
  node = await startTestNode()
})
afterAll(async () => {
  const { leftBehind } = await node.stop()
  rmSync(sources, { recursive: true, force: true })
  expect(leftBehind).toEqual([])
})

function write(name: string, source: string, config: Record<string, unknown> = {}): string {
  const directory = join(sources, name)
  mkdirSync(directory, { recursive: true })
  const document = { name, main: 'index.js', compatibility_date: '2026-11-01', ...config }
  writeFileSync(join(directory, 'wrangler.json'), JSON.stringify(document))
  writeFileSync(join(directory, 'index.js'), source)
  return directory
}

const answering = (text: string): string =>
  `export default { fetch() { return new Response(${JSON.stringify(text)}) } }`

/** The document of a command that must succeed. */
async function json<T>(...words: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await node.isola(...words, '--json')
  expect(code, `${words.join(' ')}: ${stderr}`).toBe(0)
  return JSON.parse(stdout) as T
}

const errorCode = ({ stdout }: CommandOutcome): string =>
  (JSON.parse(stdout) as { error: { code: string } }).error.code

describe('isola on a node', () => {
  test('the node says where it is, in its first line and in its data directory', () => {
    const [first = ''] = node.output().split('\n')
    const ready = JSON.parse(first) as Record<string, unknown>
    expect(ready).toMatchObject({
      event: 'ready',
      pid: node.pid,
      httpUrl: node.httpUrl,
      controlUrl: node.controlUrl,
    })
    expect(JSON.parse(readFileSync(join(node.dataDirectory, 'node.json'), 'utf8'))).toMatchObject({
      pid: node.pid,
      httpUrl: node.httpUrl,
      controlUrl: node.controlUrl,
    })
    expect(statSync(join(node.dataDirectory, 'token')).mode & 0o777).toBe(0o600)
  })

  test('deploy makes a version live and says how long it took; the same again is the same version', async () => {
    const directory = write('life', answering('one'))
    const first = await json<DeployResult & { warnings: string[] }>('deploy', directory)
    expect(first.liveMs).toBeGreaterThan(0)
    expect(first.warnings).toEqual([])
    expect(first.urls).toEqual([`http://life.localhost:${new URL(node.httpUrl).port}/`])
    expect((await node.fetch('life.localhost')).text()).toBe('one')
    const again = await node.isola('deploy', directory)
    expect(again.stdout).toMatch(/^life: version [0-9a-f]{32} is live in \d+ ms/)
    expect(again.stdout).toContain(first.deployment.shares[0]?.versionId)
  })

  test('versions, traffic and rollback move requests between versions', async () => {
    write('life', answering('two'))
    await json('deploy', join(sources, 'life'), '--message', 'the second')
    const { versions } = await json<{ versions: VersionSummary[] }>('versions', 'life')
    expect(versions.map(({ message, percent }) => [message, percent])).toEqual([
      ['the second', 100],
      ['', 0],
    ])
    const [two = '', one = ''] = versions.map(({ id }) => id)
    expect((await node.fetch('life.localhost')).text()).toBe('two')

    await json('traffic', 'life', `${one.slice(0, 8)}=100`)
    expect((await node.fetch('life.localhost')).text()).toBe('one')
    await json('traffic', 'life', `${one}=50`, `${two}=50%`)
    const { deployment } = await json<DeployResult>('traffic', 'life')
    expect(deployment.shares.map(({ percent }) => percent)).toEqual([50, 50])

    await json('rollback', 'life', two.slice(0, 8))
    expect((await node.fetch('life.localhost')).text()).toBe('two')
    expect((await node.isola('versions', 'life')).stdout).toContain(two)
    expect((await node.isola('list')).stdout).toMatch(
      new RegExp(`^life +worker +${two.slice(0, 8)} 100%`, 'm'),
    )
  })

  test('routes send other hosts to a function until they are removed', async () => {
    const before = await node.fetch('shop.example', '/a')
    expect(before.status).toBe(404)
    await json('routes', 'add', 'shop.example/a*', 'life')
    expect((await node.fetch('shop.example', '/abc')).text()).toBe('two')
    expect((await node.isola('routes')).stdout).toMatch(/^shop\.example\/a\* +life +operator +-$/m)
    await json('routes', 'remove', 'shop.example/a*', 'life')
    expect((await node.fetch('shop.example', '/abc')).status).toBe(404)
    expect(await json('routes', 'list')).toEqual({ routes: [] })
  })

  test('scale changes the policy and shows it', async () => {
    const changed = await json<{ policy: object }>(
      'scale',
      'life',
      '--max',
      '3',
      '--queue-timeout',
      '10s',
      '--idle',
      '5m',
    )
    expect(changed.policy).toMatchObject({ max: 3, queueTimeoutMs: 10_000, idleMs: 300_000 })
    const { stdout } = await node.isola('scale', 'life')
    expect(stdout).toMatch(/^idle +5m +function$/m)
    expect(stdout).toMatch(/^min +0 +default$/m)
    const refused = await node.isola('scale', 'life', '--min', '9', '--json')
    expect(refused.code).toBe(1)
    expect(errorCode(refused)).toBe('invalid_argument')
    expect(await json('scale', 'life')).toMatchObject({ functionName: 'life', policy: changed.policy })
    expect((await node.isola('scale', 'life', '--history')).stdout).toMatch(
      /^\d{4}-.+@.+ max unset → 3, .*idle unset → 5m/m,
    )
  })

  test('scale says why there are as many instances as there are', async () => {
    await node.fetch('life.localhost')
    const scaling = async (): Promise<unknown> => (await json<PolicyView>('scale', 'life')).scaling
    await expect
      .poll(scaling, { timeout: 20_000 })
      .toContainEqual(
        expect.objectContaining({ functionName: 'life', running: 1, reason: expect.stringMatching(/\S/) }),
      )
  })

  test('limits are in force when the command returns', async () => {
    write('bounded', 'export default { async fetch(r) { return new Response((await r.text()).length) } }')
    await json('deploy', join(sources, 'bounded'))
    const post = async (sizeBytes: number): Promise<number> =>
      (await node.fetch('bounded.localhost', '/', { method: 'POST', body: 'x'.repeat(sizeBytes) })).status
    expect(await post(2_000)).toBe(200)
    await json('limits', 'bounded', '--request-body', '1K')
    expect(await post(2_000)).toBe(413)
    expect(await post(1_000)).toBe(200)
    await json('limits', 'bounded', '--unset', 'request-body')
    expect(await post(2_000)).toBe(200)
  })

  test('status lists every process with its role, and the functions of the instances', async () => {
    await node.fetch('life.localhost')
    const status = await json<NodeStatus>('status')
    const roles = status.processes.map(({ role }) => role)
    expect(roles).toEqual(expect.arrayContaining(['agent', 'router', 'egress', 'instance']))
    expect(status.processes.find(({ role }) => role === 'agent')?.pid).toBe(node.pid)
    expect(status.processes.filter(({ role }) => role === 'instance')).toContainEqual(
      expect.objectContaining({
        function: 'life',
        version: expect.stringMatching(/^[0-9a-f]{32}$/),
        state: 'running',
      }),
    )
    expect((await node.isola('status')).stdout).toMatch(/^instance +\d+ +running +life /m)
  })

  test('logs show what was written, and follow what is being written', async () => {
    write(
      'chatty',
      'export default { fetch(r) { console.log("said " + new URL(r.url).pathname); return new Response() } }',
    )
    await json('deploy', join(sources, 'chatty'))
    const child = spawn(ISOLA_BIN, ['logs', 'chatty', '-f', '--json', '--data', node.dataDirectory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = new Promise<number | null>((resolve) => child.on('exit', resolve))
    await node.fetch('chatty.localhost', '/now')
    for await (const line of createInterface({ input: child.stdout })) {
      const { source, message } = JSON.parse(line) as LogLine
      if (source === 'console' && message === 'said /now') break
    }
    child.kill('SIGINT')
    expect(await exited).toBe(0)
    const { stdout, code } = await node.isola('logs', 'chatty', '--lines', '50')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^\d\d:\d\d:\d\d\.\d{3} [0-9a-f]{8} log {3}said \/now$/m)
  })

  test('logs show the message of what was thrown once, and its frames below', async () => {
    write('thrower', 'export default { fetch() {\n  throw new Error("thrown once") } }')
    await json('deploy', join(sources, 'thrower'))
    expect((await node.fetch('thrower.localhost')).status).toBe(500)
    const shown = async (): Promise<string> => (await node.isola('logs', 'thrower')).stdout
    await expect.poll(shown, { timeout: 20_000 }).toContain('thrown once')
    expect(await shown()).toMatch(/ error Error: thrown once\n {4}at .*index\.(?:js|ts):2:\d+/)
    expect((await shown()).match(/thrown once/g)).toHaveLength(1)
  })

  test('logs do not pass on what would steer the terminal, and give it unchanged as JSON', async () => {
    write(
      'painter',
      'export default { fetch() { console.log("\\x1b[2Jgone\\ttab"); return new Response() } }',
    )
    await json('deploy', join(sources, 'painter'))
    await node.fetch('painter.localhost')
    const shown = async (...flags: string[]): Promise<string> =>
      (await node.isola('logs', 'painter', ...flags)).stdout
    await expect.poll(() => shown(), { timeout: 20_000 }).toContain('\ufffd[2Jgone\ttab')
    expect(await shown()).not.toContain('\u001b')
    expect(await shown('--json')).toContain(JSON.stringify('\u001b[2Jgone\ttab'))
  })

  test('a version that does not start is refused with its message, and the old one serves on', async () => {
    write('life', 'throw new Error("not today")\nexport default { fetch() {} }')
    const refused = await node.isola('deploy', join(sources, 'life'), '--json')
    expect(refused.code).toBe(1)
    expect(errorCode(refused)).toBe('version_refused')
    expect(refused.stderr).toContain('not today')
    expect((await node.fetch('life.localhost')).text()).toBe('two')
    expect((await json<{ versions: unknown[] }>('versions', 'life')).versions).toHaveLength(2)
  })

  test('what a function is not called is refused by every command, with exit code 1', async () => {
    for (const words of [
      ['versions', 'nobody'],
      ['rollback', 'nobody'],
      ['traffic', 'nobody'],
      ['traffic', 'nobody', '1a2b3c4d=100'],
      ['routes', 'add', 'a.example', 'nobody'],
      ['routes', 'remove', 'a.example', 'nobody'],
      ['scale', 'nobody'],
      ['limits', 'nobody'],
      ['logs', 'nobody'],
      ['delete', 'nobody', '--yes'],
    ]) {
      const outcome = await node.isola(...words, '--json')
      expect(outcome.code, words.join(' ')).toBe(1)
      expect(errorCode(outcome), words.join(' ')).toBe('function_not_found')
    }
  })

  test('a wrong token is exit code 1, and the right one works from anywhere', async () => {
    const env = { ISOLA_CONTROL_URL: node.controlUrl, ISOLA_TOKEN: 'wrong' }
    const refused = await runIsola(['list', '--json'], { cwd: sources, env })
    expect(refused.code).toBe(1)
    expect(errorCode(refused)).toBe('unauthorized')
    expect((await runIsola(['list'], { cwd: sources, env: { ...env, ISOLA_TOKEN: node.token } })).code).toBe(
      0,
    )
    expect((await runIsola(['list', '--token', node.token], { cwd: sources, env })).code).toBe(0)
  })

  test('delete ends a function', async () => {
    await json('deploy', write('brief', answering('brief')))
    expect((await node.fetch('brief.localhost')).status).toBe(200)
    expect(await json('delete', 'brief', '--yes')).toMatchObject({ functionName: 'brief', deleted: true })
    expect((await node.fetch('brief.localhost')).status).toBe(404)
  })

  test('a second node on the same data is refused, and the first goes on', async () => {
    const addresses = ['--http', '127.0.0.1:0', '--control', '127.0.0.1:0']
    const second = await node.isola('up', ...addresses, '--json')
    expect(second.code).toBe(1)
    expect(errorCode(second)).toBe('already_running')
    expect((await node.fetch('life.localhost')).text()).toBe('two')
  })

  test('doctor sees the running node', async () => {
    const { stdout, code } = await node.isola('doctor')
    expect(code).toBe(0)
    expect(stdout).toContain(`a node runs here as process ${node.pid}`)
  })
})

describe('the end of a node', () => {
  test('a restarted node serves what was deployed', async () => {
    await using own = await startTestNode()
    const directory = write('kept', answering('kept'))
    expect((await own.isola('deploy', directory)).code).toBe(0)
    await own.restart()
    expect((await own.fetch('kept.localhost')).text()).toBe('kept')
  })

  test('SIGTERM drains: a request under way ends well, the exit code is 0 and no process is left', async () => {
    const own = await startTestNode()
    const slow =
      'export default { async fetch() { console.log("began"); await new Promise((resolve) => setTimeout(resolve, 1000)); return new Response("whole") } }'
    expect((await own.isola('deploy', write('slow', slow))).code).toBe(0)
    const answer = own.fetch('slow.localhost')
    await expect
      .poll(async () => (await own.isola('logs', 'slow')).stdout, { timeout: 20_000 })
      .toContain('began')
    const report = await own.stop()
    expect((await answer).text()).toBe('whole')
    expect(report).toEqual({ exitCode: 0, leftBehind: [] })
    expect(own.output()).toContain('"event":"stopped"')
  })

  test('a second Ctrl-C kills what is unfinished; the same press arriving twice does not', async () => {
    const own = await startTestNode()
    const endless =
      'export default { fetch() { console.log("began"); return new Promise((resolve) => setTimeout(resolve, 1e6)) } }'
    expect((await own.isola('deploy', write('endless', endless))).code).toBe(0)
    const answer = own.fetch('endless.localhost').catch((error: Error) => error)
    await expect
      .poll(async () => (await own.isola('logs', 'endless')).stdout, { timeout: 20_000 })
      .toContain('began')
    const pids = (await own.status()).processes.map(({ pid }) => pid)
    process.kill(own.pid, 'SIGINT')
    process.kill(own.pid, 'SIGINT')
    const presses = setInterval(() => {
      if (isAlive(own.pid)) process.kill(own.pid, 'SIGINT')
    }, 300)
    expect(await own.exited()).toBe(130)
    clearInterval(presses)
    expect(own.output()).toContain('stopping: requests under way may finish')
    expect(own.output()).toContain('{"event":"stopped","killed":true}')
    await answer
    await expect.poll(() => pids.filter((pid) => isAlive(pid))).toEqual([])
    await own.stop()
  })

  test('an agent killed with SIGKILL leaves router and instances serving, and the next agent adopts them', async () => {
    await using own = await startTestNode()
    expect((await own.isola('deploy', write('adopted', answering('adopted')))).code).toBe(0)
    expect((await own.fetch('adopted.localhost')).text()).toBe('adopted')
    const instancePids = async (): Promise<number[]> =>
      (await own.status()).processes.filter(({ role }) => role === 'instance').map(({ pid }) => pid)
    const before = await instancePids()
    await own.kill9()
    expect((await own.fetch('adopted.localhost')).text()).toBe('adopted')
    await own.restart()
    expect(await instancePids()).toEqual(before)
    expect((await own.fetch('adopted.localhost')).text()).toBe('adopted')
  })
})
