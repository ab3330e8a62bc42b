/** What `wrangler tail` prints of a whole node's functions: lines, exceptions with mapped stacks, filters, the end of it. */
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { startWorkNode, type WorkNode } from '../harness/work-node.ts'
import { openProject, type Project, type RunningCommand } from '../harness/wrangler.ts'
import { wranglerTest } from '../harness/wrangler-test.ts'

let node: WorkNode
let project: Project
beforeAll(async () => {
  node = await startWorkNode()
  project = await openProject(node, 'faulty')
  await project.run(['deploy'])
})
afterAll(async () => {
  await project[Symbol.asyncDispose]()
  expect(await node.stop()).toEqual({ exitCode: 0, leftBehind: [] })
})

interface TraceEvent {
  readonly outcome: string
  readonly scriptName: string
  readonly event: { readonly request: { readonly url: string; readonly method: string } }
  readonly logs: readonly { readonly level: string; readonly message: readonly unknown[] }[]
  readonly exceptions: readonly {
    readonly name: string
    readonly message: string
    readonly stack?: string
  }[]
}

/** wrangler prints each as indented JSON, one after the other. */
function eventsOf(output: string): readonly TraceEvent[] {
  return output
    .split(/^(?=\{$)/m)
    .filter((part) => part.startsWith('{') && part.trimEnd().endsWith('}'))
    .map((part) => JSON.parse(part) as TraceEvent)
}

const pathOf = ({ event }: TraceEvent): string => new URL(event.request.url).pathname

/** As JSON mode says nothing when it is connected: requests until the first is seen. */
async function jsonTail(...words: readonly string[]): Promise<RunningCommand> {
  const tail = project.start(['tail', '--format', 'json', ...words])
  await node.until(async () => {
    await node.get('faulty', '/fail')
    return eventsOf(tail.output()).length > 0
  })
  return tail
}

const hasPath =
  (path: string) =>
  (output: string): boolean =>
    eventsOf(output).some((event) => pathOf(event) === path)

async function openTails(): Promise<number> {
  const response = await fetch(`${node.controlUrl}/client/v4/accounts/isola/workers/scripts/faulty/tails`, {
    headers: { authorization: `Bearer ${node.token}` },
  })
  return ((await response.json()) as { result: unknown[] }).result.length
}

describe('wrangler tail', () => {
  wranglerTest('prints console lines and an exception whose stack names the sources', async () => {
    const tail = await jsonTail()
    await node.get('faulty', '/warn')
    const events = eventsOf(await tail.until(hasPath('/warn')))
    const warned = events.find((event) => pathOf(event) === '/warn')
    expect(warned).toMatchObject({ outcome: 'ok', scriptName: 'faulty', exceptions: [] })
    expect(warned?.event.request.method).toBe('GET')
    expect(warned?.logs).toMatchObject([
      { level: 'log', message: ['asked for', '/warn', { depth: [1, 2] }] },
      { level: 'warn', message: ['careful'] },
    ])
    const failed = events.find((event) => pathOf(event) === '/fail')
    expect(failed?.outcome).toBe('exception')
    const [exception] = failed?.exceptions ?? []
    expect(exception).toMatchObject({ name: 'TypeError', message: 'there is no item' })
    expect(exception?.stack).toMatch(/price\.ts:8:\d+[^]*index\.ts:8:\d+/)
    await tail.end('SIGINT')
    await node.until(async () => (await openTails()) === 0)
  })

  wranglerTest(
    'prints for people too, several watch at once, and each sees what its filters let through',
    async () => {
      const pretty = project.start(['tail', '--format', 'pretty'])
      await pretty.until((output) => output.includes('waiting for logs'))
      const failures = await jsonTail('--status', 'error')
      const posts = project.start(['tail', '--format', 'json', '--method', 'POST', '--search', 'asked'])
      await node.until(async () => {
        await node.get('faulty', '/posted', { method: 'POST' })
        return eventsOf(posts.output()).length > 0
      })
      expect(await openTails()).toBe(3)
      await node.get('faulty', '/warn')
      await node.get('faulty', '/last', { method: 'POST' })
      await node.get('faulty', '/fail')
      const said = await pretty.until((output) => output.includes('/last') && output.includes('TypeError'))
      expect(said).toMatch(/GET http:\/\/faulty\.localhost:\d+\/warn - Ok/)
      expect(said).toContain('(warn) careful')
      expect(said).toContain('there is no item')
      await posts.until(hasPath('/last'))
      expect(eventsOf(posts.output()).every(({ event }) => event.request.method === 'POST')).toBe(true)
      expect(eventsOf(failures.output()).every(({ outcome }) => outcome === 'exception')).toBe(true)

      // One that dies without a word leaves no session.
      await posts.end('SIGKILL')
      await node.until(async () => (await openTails()) === 2)
      await pretty.end('SIGINT')
      await failures.end('SIGINT')
      await node.until(async () => (await openTails()) === 0)
    },
  )

  wranglerTest('of a Worker that is not there ends with an error that says so', async () => {
    const { code, stderr } = await project.wrangler(['tail', 'nobody'])
    expect(code).toBe(1)
    expect(stderr).toContain('nobody')
    expect(stderr).toContain('10007')
  })
})

describe('a tail consumer', () => {
  wranglerTest('of the configuration is given the events of the Worker that names it', async () => {
    await using watcher = await openProject(node, 'hello')
    await using watched = await openProject(node, 'hello')
    await watcher.edit('wrangler.jsonc', '"hello"', '"watcher"')
    await watcher.write(
      'src/index.ts',
      `export default {
        tail(events) {
          for (const { scriptName, outcome, logs } of events) console.log(scriptName, outcome, logs[0]?.message[0])
        },
      }`,
    )
    await watcher.run(['deploy'])
    await watched.edit(
      'wrangler.jsonc',
      '"hello",',
      '"watched", "tail_consumers": [{ "service": "watcher" }],',
    )
    await watched.edit('src/index.ts', 'return', "console.log('seen')\n    return")
    await watched.run(['deploy'])
    expect((await node.get('watched')).text).toBe('hello 1')
    await node.until(async () => (await node.isola('logs', 'watcher')).stdout.includes('watched ok seen'))
  })
})
