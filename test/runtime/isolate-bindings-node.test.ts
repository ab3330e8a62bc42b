/** Secrets, rate limits and scripts on a whole node: the command line, two instances of one function, files on disk. */
import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Binding } from '../../sdk/model/function.ts'
import { ISOLA_BIN } from '../harness/node.ts'
import { startWorkNode, type WorkNode } from '../harness/work-node.ts'

const SECRET = 'open-sesame-and-nobody-else'
const LIMIT: Binding = { type: 'rate-limit', name: 'LIMIT', namespaceId: 'shared', limit: 3, periodS: 60 }
const LIMITED = `export default { async fetch(request, env) {
  return Response.json(await env.LIMIT.limit({ key: new URL(request.url).pathname }))
} }`

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode()
})
afterAll(async () => {
  expect((await node.stop()).leftBehind).toEqual([])
  expect(node.traces()).toEqual([])
})

/** As `isola … < file`. */
async function isolaWith(
  input: string,
  ...words: readonly string[]
): Promise<{ code: number; text: string }> {
  const child = spawn(ISOLA_BIN, [...words, '--data', node.dataDirectory], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
  child.stdin.end(input)
  const code = await new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? -1)))
  return { code, text }
}

test('a secret put on the command line reaches the function, and no file of the node holds it', async () => {
  await node.deploy('safe', 'export default { fetch: (request, env) => new Response(env.KEY ?? "none") }')
  expect((await node.get('safe')).text).toBe('none')
  const put = await isolaWith(`${SECRET}\n`, 'secret', 'put', 'safe', 'KEY')
  expect(put).toMatchObject({
    code: 0,
    text: expect.stringMatching(/^set KEY: version [0-9a-f]{8} of safe serves/),
  })
  expect((await node.get('safe')).text).toBe(SECRET)
  expect(await node.isola('secret', 'list', 'safe')).toMatchObject({ code: 0, stdout: 'SECRET\nKEY\n' })

  await node.deploy('safe', 'export default { fetch: (request, env) => new Response("again " + env.KEY) }')
  expect((await node.get('safe')).text).toBe(`again ${SECRET}`)
  const answers = [await node.isola('versions', 'safe', '--json'), await node.isola('status', '--json')]
  expect(answers.map(({ stdout }) => stdout).join()).not.toContain(SECRET)
  expect(node.output()).not.toContain(SECRET)
  const files = readdirSync(node.dataDirectory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(node.dataDirectory, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true)
  expect(files.length).toBeGreaterThan(5)
  expect(files.filter((path) => readFileSync(path, 'latin1').includes(SECRET))).toEqual([])

  expect((await isolaWith('', 'secret', 'put', 'safe', 'KEY')).code).toBe(2)
  expect(await node.isola('secret', 'delete', 'safe', 'KEY')).toMatchObject({ code: 0 })
  expect((await node.get('safe')).text).toBe('again undefined')
  expect((await node.isola('secret', 'delete', 'safe', 'KEY')).stderr).toContain('has no secret "KEY"')
  expect((await node.isola('secret', 'put', 'safe')).stderr).toContain('put FN NAME')
})

test('functions with rate limits of one namespace count together, each key for itself', async () => {
  await node.deploy('one', LIMITED, { bindings: [LIMIT] })
  await node.deploy('two', LIMITED, { bindings: [LIMIT] })
  const answers: string[] = []
  for (const name of ['one', 'two', 'one', 'two', 'one']) answers.push((await node.get(name, '/key')).text)
  expect(answers).toEqual([
    ...Array.from({ length: 3 }, () => '{"success":true}'),
    ...Array.from({ length: 2 }, () => '{"success":false}'),
  ])
  expect((await node.get('two', '/other')).text).toBe('{"success":true}')
})

test('isola deploy puts a script of the service-worker format into service', async () => {
  const directory = join(node.dataDirectory, 'project')
  mkdirSync(directory)
  const config = {
    name: 'script',
    main: 'index.js',
    compatibility_date: '2026-10-01',
    vars: { WHO: 'script' },
  }
  writeFileSync(join(directory, 'wrangler.json'), JSON.stringify(config))
  const code = `addEventListener('fetch', (event) => event.respondWith(new Response('a ' + WHO)))`
  writeFileSync(join(directory, 'index.js'), code)
  expect(await node.isola('deploy', directory)).toMatchObject({ code: 0 })
  expect((await node.get('script')).text).toBe('a script')
})
