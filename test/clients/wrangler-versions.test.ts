/** Versions, splits and secrets by the real wrangler on a whole node, under load where nothing may be felt of a change. */
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

let attempts = 0
/** A Worker that no attempt had before: what is counted are its own deploys. The first attempt is the same always. */
const fresh = (base: string): string => `${base}-${(attempts += 1)}`

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/
const text = async (name: string): Promise<string> => (await node.get(name)).text

async function named(name: string, fixture: 'hello' | 'hono' = 'hello'): Promise<Project> {
  const project = await openProject(node, fixture)
  const from = fixture === 'hono' ? 'hono-api' : fixture
  await project.edit('wrangler.jsonc', `"name": "${from}"`, `"name": "${name}"`)
  return project
}

async function deploy(project: Project, ...words: readonly string[]): Promise<string> {
  const [, id] = new RegExp(`Version ID: (${UUID.source})`).exec(await project.run([...words])) ?? []
  if (id === undefined) throw new Error(`wrangler ${words.join(' ')} named no version`)
  return id
}

/** Who answers 120 clients, each of whom brings a key of their own. */
async function answers(name: string): Promise<readonly string[]> {
  const keys = Array.from({ length: 120 }, (_, index) => `client-${index}`)
  const all: string[] = []
  for (const key of keys) {
    const response = await node.get(name, '/', { headers: { 'cloudflare-workers-version-key': key } })
    expect(response.status).toBe(200)
    all.push(response.text)
  }
  return all
}

describe('a gradual deployment', () => {
  wranglerTest(
    'goes from 10 by 50 to 100 percent and back, clients stay with what they got, and no request fails',
    async () => {
      const name = fresh('gradual')
      await using project = await named(name)
      const old = await deploy(project, 'deploy')
      const traffic = node.traffic(name, {
        isGood: ({ status, text }) => status === 200 && ['hello 1', 'hello 2'].includes(text),
      })
      await traffic.more(20)
      await project.edit('src/index.ts', 'hello 1', 'hello 2')
      const next = await deploy(project, 'versions', 'upload', '--message', 'the second', '--tag', 'v2')
      expect(new Set(await answers(name))).toEqual(new Set(['hello 1']))

      const split = (percent: number): Promise<string> =>
        project.run(['versions', 'deploy', `${next}@${percent}`, `${old}@${100 - percent}`, '--yes'])
      await split(10)
      const atTen = await answers(name)
      expect(await answers(name)).toEqual(atTen)
      expect(await project.run(['deployments', 'status'])).toMatch(
        new RegExp(`\\(10%\\) ${next}[^]*\\(90%\\) ${old}|\\(90%\\) ${old}[^]*\\(10%\\) ${next}`),
      )
      await split(50)
      const atFifty = await answers(name)
      const count = (all: readonly string[]): number => all.filter((each) => each === 'hello 2').length
      // 120 draws at 0.1 and at 0.5: outside of these bounds once in 100,000 keys and versions, and both are the same always.
      expect(count(atTen)).toBeGreaterThan(1)
      expect(count(atTen)).toBeLessThan(30)
      expect(count(atFifty)).toBeGreaterThan(35)
      expect(count(atFifty)).toBeLessThan(85)
      // Whoever had the new version keeps it as its share grows.
      expect(atTen.every((answer, index) => answer === 'hello 1' || atFifty[index] === 'hello 2')).toBe(true)

      await project.run(['versions', 'deploy', `${next}@100`, '--yes'])
      expect(new Set(await answers(name))).toEqual(new Set(['hello 2']))
      await project.run(['rollback', '--message', 'it was worse', '--yes'])
      expect(new Set(await answers(name))).toEqual(new Set(['hello 1']))
      const { answered, failures } = await traffic.stop()
      expect(failures).toEqual([])
      expect(answered).toBeGreaterThan(100)
      expect(traffic.texts).toEqual(new Set(['hello 1', 'hello 2']))

      const deployments = await project.run(['deployments', 'list'])
      expect(deployments).toContain('it was worse')
      expect(deployments.match(/\(50%\)/g)).toHaveLength(2)
    },
    180_000,
  )

  wranglerTest('that makes no sense is refused, and changes nothing', async () => {
    await using project = await named('senseless')
    const only = await deploy(project, 'deploy')
    const absent = '00000000-0000-4000-8000-000000000000'
    const refused = await project.wrangler(['versions', 'deploy', `${absent}@100`, '--yes'])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain(`has no version ${absent}`)
    expect(await project.run(['deployments', 'status'])).toContain(only)
    expect(await text('senseless')).toBe('hello 1')
  })
})

describe('two deploys at once', () => {
  wranglerTest('end in one order, on which everybody who reads agrees', async () => {
    const name = fresh('contested')
    await using left = await named(name)
    await using right = await named(name)
    await left.run(['deploy'])
    await left.edit('src/index.ts', 'hello 1', 'the left one')
    await right.edit('src/index.ts', 'hello 1', 'the right one')
    const outcomes = await Promise.all([left, right].map((project) => project.wrangler(['deploy'])))
    expect(outcomes.map(({ code, stderr }) => [code, stderr])).toEqual([
      [0, ''],
      [0, ''],
    ])
    const ids = outcomes.map(({ stdout }) => UUID.exec(stdout)?.[0] ?? '')
    const serving = await text(name)
    expect(['the left one', 'the right one']).toContain(serving)
    const deployments = JSON.parse(await left.run(['deployments', 'list', '--json'])) as {
      versions: { version_id: string; percentage: number }[]
    }[]
    expect(deployments).toHaveLength(3)
    const winner = ids[serving === 'the left one' ? 0 : 1]
    expect(deployments.at(-1)?.versions).toEqual([{ version_id: winner, percentage: 100 }])
    const status = JSON.parse(await right.run(['deployments', 'status', '--json'])) as object
    expect(status).toMatchObject({ versions: [{ version_id: winner, percentage: 100 }] })
  })
})

describe('versions', () => {
  wranglerTest('are uploaded, listed, viewed and previewed before anybody else sees them', async () => {
    const name = fresh('preview')
    await using project = await named(name)
    await deploy(project, 'deploy')
    await project.edit('src/index.ts', 'hello 1', 'hello 2')
    const words = ['versions', 'upload', '--message', 'have a look', '--tag', 'look-1']
    const said = await project.run(words)
    const [id = ''] = UUID.exec(said) ?? []
    expect(said).toContain(id.slice(0, 8))
    expect(await text(`${id.slice(0, 8)}-${name}`)).toBe('hello 2')
    expect(await text(name)).toBe('hello 1')
    const list = await project.run(['versions', 'list'])
    expect(list).toMatch(new RegExp(`${id}[^]*have a look|have a look[^]*${id}`))
    expect(list).toContain('look-1')
    const view = await project.run(['versions', 'view', id])
    expect(view).toContain('Handlers:')
    expect(view).toContain('2026-11-01')
    const listed = JSON.parse(await project.run(['versions', 'list', '--json'])) as { id: string }[]
    expect(listed.at(-1)?.id).toBe(id)
    expect(listed).toHaveLength(2)
  })
})

describe('secrets', () => {
  wranglerTest(
    'are put, listed, changed in bulk and deleted, kept by deploys, and never shown',
    async () => {
      await using project = await named('keeper', 'hono')
      await deploy(project, 'deploy')
      const secret = async (): Promise<string> => (await node.get('keeper', '/secret')).text
      await project.run(['secret', 'put', 'SECRET'], { input: 'hush-hush' })
      expect(await secret()).toBe('hush-hush')
      await project.edit('wrangler.jsonc', '"hello"', '"good day"')
      const id = await deploy(project, 'deploy')
      expect(await text('keeper')).toBe('good day from hono')
      expect(await secret()).toBe('hush-hush')
      const view = await project.run(['versions', 'view', id])
      expect(view).toContain('SECRET')
      expect(view).not.toContain('hush-hush')

      const bulk = JSON.stringify({ SECRET: 'louder', OTHER: 'x' })
      await project.run(['secret', 'bulk'], { input: bulk })
      expect(await secret()).toBe('louder')
      const names = JSON.parse(await project.run(['secret', 'list'])) as { name: string }[]
      expect(names.map(({ name }) => name).sort()).toEqual(['OTHER', 'SECRET'])
      await project.run(['secret', 'delete', 'SECRET'])
      expect(await secret()).toBe('none')
      // It is asked whether the secrets may go back too, and takes yes where nobody can answer.
      expect(await project.run(['rollback', '--yes'])).toMatch(/SECRET/)
      expect(await secret()).toBe('louder')
    },
    120_000,
  )

  wranglerTest('of a version change no traffic until it is deployed', async () => {
    await using project = await named('later', 'hono')
    await deploy(project, 'deploy')
    const secret = async (): Promise<string> => (await node.get('later', '/secret')).text
    const said = await project.run(['versions', 'secret', 'put', 'SECRET'], { input: 'for later' })
    const [id = ''] = UUID.exec(said) ?? []
    expect(await secret()).toBe('none')
    await project.run(['versions', 'deploy', `${id}@100`, '--yes'])
    expect(await secret()).toBe('for later')
    const list = await project.run(['versions', 'secret', 'list'])
    expect(list).toContain('SECRET')
    expect(list).not.toContain('for later')
  })

  wranglerTest('make the Worker where there is none yet, and its first deploy keeps them', async () => {
    await using project = await named('early', 'hono')
    await project.run(['secret', 'put', 'SECRET'], { input: 'first of all' })
    await deploy(project, 'deploy')
    expect((await node.get('early', '/secret')).text).toBe('first of all')
  })
})
