/** Events for later, and calls of a Worker, on a whole node with a real container function. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect } from 'vitest'
import { describeEngine, engineTest } from '../harness/engine.ts'
import { startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

const HANDLER = `export const handler = async (event) => {
  if (event.rawPath !== undefined) {
    return { statusCode: 201, headers: { 'x-from': 'container' }, body: event.requestContext.http.method + ' ' + event.rawPath + ' ' + event.headers.host }
  }
  console.log('begin ' + event.n)
  await new Promise((resolve) => setTimeout(resolve, event.ms))
  console.log('end ' + event.n)
}
`

describeEngine('a container function', () => {
  let node: WorkNode
  const directory = mkdtempSync(join(tmpdir(), 'isola-async-node-'))
  beforeAll(async () => {
    writeFileSync(join(directory, 'index.mjs'), HANDLER)
    const config = { name: 'job', runtime: 'nodejs24', handler: 'index.handler' }
    writeFileSync(join(directory, 'isola.jsonc'), JSON.stringify(config))
    node = await startWorkNode()
    expect(await node.isola('deploy', directory)).toMatchObject({ code: 0 })
  }, 120_000)
  afterAll(async () => {
    rmSync(directory, { recursive: true, force: true })
    expect((await node.stop()).leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  })

  const logs = async (): Promise<string> => (await node.isola('logs', 'job', '--lines', '1000')).stdout

  engineTest('is called by a Worker through a service binding', async () => {
    await node.deploy(
      'caller',
      `export default { fetch: (request, env) => env.JOB.fetch('https://any.host/a/b') }`,
      {
        bindings: [{ type: 'service', name: 'JOB', functionName: 'job' }],
      },
    )
    const { status, text } = await node.get('caller')
    expect([status, text]).toEqual([201, 'GET /a/b any.host'])
  })

  engineTest(
    'works on every event that was accepted, whatever processes of the node are killed',
    async () => {
      const sent = Array.from({ length: 6 }, (_, index) => `e${index}`)
      for (const n of sent)
        await node.client().invoke('job', { payload: JSON.stringify({ n, ms: 400 }), type: 'async' })
      await untilSo(async () => (await logs()).includes('begin e0'))
      const { processes } = await node.status()
      const roles = new Set<string>(processes.map(({ role }) => role))
      expect([...roles]).toEqual(expect.arrayContaining(['router', 'lambda', 'instance']))
      // The agent first: it would start the others again.
      await node.kill9()
      for (const { pid, role } of processes) if (role !== 'agent') process.kill(pid, 'SIGKILL')
      await node.restart()
      await untilSo(async () => {
        const text = await logs()
        return sent.every((n) => text.includes(`end ${n}`))
      })
      expect(await node.client().listDeadLetters('job')).toEqual([])
    },
  )
})
