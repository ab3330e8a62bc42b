/** What isola cannot honour, what is wrong, and what never was wrangler: an error to act on, and an unchanged node. */
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { startWorkNode, type WorkNode } from '../harness/work-node.ts'
import { openProject, type Project } from '../harness/wrangler.ts'
import { wranglerTest } from '../harness/wrangler-test.ts'

let node: WorkNode
beforeAll(async () => {
  node = await startWorkNode()
})
afterAll(async () => {
  expect(await node.stop()).toEqual({ exitCode: 0, leftBehind: [] })
})

const generation = async (): Promise<number> => (await node.status()).generation

async function withConfig(fields: Readonly<Record<string, unknown>>): Promise<Project> {
  const project = await openProject(node, 'hello')
  const whole = { name: 'refused', main: 'src/index.ts', compatibility_date: '2026-11-01', ...fields }
  await project.write('wrangler.jsonc', JSON.stringify(whole))
  return project
}

describe('a deploy is refused by name and leaves nothing', () => {
  const bindings: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
    KV: { kv_namespaces: [{ binding: 'CACHE', id: '00000000000000000000000000000001' }] },
    D1: { d1_databases: [{ binding: 'CACHE', database_name: 'db', database_id: 'some-id' }] },
    'a Durable Object': {
      durable_objects: { bindings: [{ name: 'CACHE', class_name: 'Counter' }] },
      migrations: [{ tag: 'v1', new_sqlite_classes: ['Counter'] }],
    },
    'a queue': { queues: { producers: [{ binding: 'CACHE', queue: 'jobs' }] } },
    R2: { r2_buckets: [{ binding: 'CACHE', bucket_name: 'files' }] },
    Hyperdrive: { hyperdrive: [{ binding: 'CACHE', id: 'some-id' }] },
  }
  for (const [what, fields] of Object.entries(bindings)) {
    wranglerTest(`with ${what}`, async () => {
      await using project = await withConfig(fields)
      await project.edit(
        'src/index.ts',
        'export default',
        "import { DurableObject } from 'cloudflare:workers'\nexport class Counter extends DurableObject {}\nexport default",
      )
      const before = await generation()
      const { code, stderr } = await project.wrangler(['deploy'])
      expect(code).toBe(1)
      expect(stderr).toMatch(/does not have/)
      // A queue or bucket of that name is asked for before the upload, which is what names the binding.
      expect(stderr).toMatch(/CACHE|jobs|files/)
      expect(await generation()).toBe(before)
      expect((await node.get('refused')).code).toBe('route_not_found')
    })
  }

  wranglerTest('with a wrong token, and wrangler says what to do', async () => {
    await using project = await openProject({ controlUrl: node.controlUrl, token: 'not-the-token' }, 'hello')
    const before = await generation()
    const { code, stdout, stderr } = await project.wrangler(['deploy'])
    expect(code).toBe(1)
    expect(stdout + stderr).toContain('Authentication error')
    expect(stderr).toContain('[code: 10000]')
    expect(stderr).toContain('wrangler-env')
    expect(await generation()).toBe(before)
  })

  wranglerTest('with a Worker that does not start, and its own sources are named', async () => {
    await using project = await withConfig({})
    await project.edit('src/index.ts', 'export default', 'undefinedAtStart()\nexport default')
    const before = await generation()
    const { code, stderr } = await project.wrangler(['deploy'])
    expect(code).toBe(1)
    expect(stderr).toContain('undefinedAtStart is not defined')
    expect(stderr).toContain('[code: 10021]')
    expect(stderr).toMatch(/src\/index\.ts:1:\d+/)
    expect(await generation()).toBe(before)
  })

  wranglerTest('with a name that is no host name', async () => {
    await using project = await withConfig({ name: 'under_score' })
    const { code, stderr } = await project.wrangler(['deploy'])
    expect(code).toBe(1)
    expect(stderr).toContain('under_score')
  })

  wranglerTest('with a service that is not there', async () => {
    await using project = await withConfig({ services: [{ binding: 'OTHER', service: 'nobody' }] })
    const before = await generation()
    const { code, stderr } = await project.wrangler(['deploy'])
    expect(code).toBe(1)
    expect(stderr).toContain('nobody')
    expect(await generation()).toBe(before)
  })

  wranglerTest('with an experimental compatibility flag', async () => {
    await using project = await withConfig({ compatibility_flags: ['experimental'] })
    const before = await generation()
    const { code, stderr } = await project.wrangler(['deploy'])
    expect(code).toBe(1)
    expect(stderr).toContain('experimental')
    expect(await generation()).toBe(before)
  })
})

describe('a cron trigger', () => {
  wranglerTest('fails the command with a message that says what became of the Worker', async () => {
    await using project = await withConfig({ name: 'timed', triggers: { crons: ['*/5 * * * *'] } })
    const { code, stdout, stderr } = await project.wrangler(['deploy'])
    expect(code).toBe(1)
    expect(stdout + stderr).toContain('isola does not have cron triggers yet')
  })
})

describe('bytes that never came from wrangler', () => {
  /** One connection, these bytes, and all that comes back. */
  function raw(head: readonly string[], body: string, { isCutOff = false } = {}): Promise<string> {
    const { hostname, port } = new URL(node.controlUrl)
    const socket = connect({ host: hostname, port: Number(port) })
    const lines = [...head, `host: ${hostname}:${port}`, `authorization: Bearer ${node.token}`, '', body]
    return new Promise((resolve, reject) => {
      let text = ''
      socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
      socket.on('close', () => resolve(text))
      socket.on('error', reject)
      socket.write(lines.join('\r\n'), () => {
        if (isCutOff) socket.destroy()
      })
    })
  }

  const PATH = '/client/v4/accounts/isola/workers/scripts/raw'
  const put = (type: string, body: string): Promise<string> =>
    raw(
      [
        `PUT ${PATH} HTTP/1.1`,
        `content-type: ${type}`,
        `content-length: ${Buffer.byteLength(body)}`,
        'connection: close',
      ],
      body,
    )
  const part = (disposition: string, type: string, body: string): string =>
    `--B\r\ncontent-disposition: form-data; ${disposition}\r\n${type === '' ? '' : `content-type: ${type}\r\n`}\r\n${body}\r\n`
  const module = part(
    'name="a.js"; filename="a.js"',
    'application/javascript+module',
    'export default { fetch() {} }',
  )
  const metadata = (json: string): string => part('name="metadata"', '', json)
  const FORM = 'multipart/form-data; boundary=B'

  const bad: Readonly<Record<string, readonly [type: string, body: string]>> = {
    'no form at all': ['application/json', '{}'],
    'a form without a boundary': ['multipart/form-data', '--B--'],
    'a form that is cut off': [FORM, metadata('{"main_module":"a.js"}') + module.slice(0, 60)],
    'no metadata': [FORM, `${module}--B--\r\n`],
    'metadata that is no JSON': [FORM, `${metadata('{"main_module":')}${module}--B--\r\n`],
    'metadata of another shape': [
      FORM,
      `${metadata('{"main_module":"a.js","bindings":7}')}${module}--B--\r\n`,
    ],
    'a main module that is not there': [FORM, `${metadata('{"main_module":"b.js"}')}${module}--B--\r\n`],
    'a module name that climbs': [
      FORM,
      `${metadata('{"main_module":"../../a.js"}')}${part('name="../../a.js"; filename="../../a.js"', 'application/javascript+module', 'export default {}')}--B--\r\n`,
    ],
    'a module of no known type': [
      FORM,
      `${metadata('{"main_module":"a.js"}')}${module}${part('name="b"; filename="b"', 'image/png', 'x')}--B--\r\n`,
    ],
    'an unknown binding type': [
      FORM,
      `${metadata('{"main_module":"a.js","bindings":[{"name":"X","type":"teapot"}]}')}${module}--B--\r\n`,
    ],
    'an assets token that nobody gave': [
      FORM,
      `${metadata('{"main_module":"a.js","assets":{"jwt":"a.b.c"}}')}${module}--B--\r\n`,
    ],
  }
  for (const [what, [type, body]] of Object.entries(bad)) {
    wranglerTest(`with ${what} get an envelope with an error, and change nothing`, async () => {
      const before = await generation()
      const answer = await put(type, body)
      expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /)
      const json = answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1)
      expect(JSON.parse(json)).toMatchObject({
        success: false,
        errors: [{ code: expect.any(Number), message: expect.stringMatching(/\w+ \w+/) }],
        result: null,
      })
      expect(await generation()).toBe(before)
      expect((await node.get('raw')).code).toBe('route_not_found')
    })
  }

  wranglerTest('of an upload that breaks off change nothing, and the next is served', async () => {
    const before = await generation()
    const head = [`PUT ${PATH} HTTP/1.1`, `content-type: ${FORM}`, 'content-length: 100000']
    await raw(head, metadata('{"main_module":"a.js"}') + module, { isCutOff: true })
    const good = `${metadata('{"main_module":"a.js"}')}${module}--B--\r\n`
    expect(await put(FORM, good)).toContain('"success":true')
    expect(await generation()).toBe(before + 1)
  })
})
