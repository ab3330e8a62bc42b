/** The data directory of a whole node: who may use it, what it may be, and what happens when it is full. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { runIsola } from '../harness/node.ts'
import { withTmpfs } from '../harness/tmpfs.ts'
import { startWorkNode, untilSo, type WorkNode } from '../harness/work-node.ts'

const HELLO = `export default { fetch: () => new Response('hello') }`
const UP = ['up', '--http', '127.0.0.1:0', '--control', '127.0.0.1:0', '--json'] as const

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'isola-data-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

async function withNode(dataDirectory: string, use: (node: WorkNode) => Promise<void>): Promise<void> {
  const node = await startWorkNode({ dataDirectory })
  try {
    await use(node)
  } finally {
    const { leftBehind } = await node.stop()
    expect(leftBehind).toEqual([])
    expect(node.traces()).toEqual([])
  }
}

describe('a data directory', () => {
  test('belongs to one node: a second one is refused by name and the first goes on', async () => {
    await withNode(root, async (node) => {
      await node.deploy('hello', HELLO)
      const second = await runIsola([...UP, '--data', root])
      expect(second.code).toBe(1)
      expect(JSON.parse(second.stdout)).toMatchObject({ error: { code: 'already_running' } })
      expect(await node.get('hello')).toMatchObject({ status: 200, text: 'hello' })
      await node.deploy('hello', HELLO.replace('hello', 'again'))
      expect((await node.get('hello')).text).toBe('again')
    })
  })

  test('may have spaces, letters of any kind and a path longer than a socket address', async () => {
    const deep = join(root, 'with spaces & ünïcode', 'x'.repeat(100), 'y'.repeat(100))
    await withNode(deep, async (node) => {
      await node.deploy('hello', HELLO)
      expect(await node.get('hello')).toMatchObject({ status: 200, text: 'hello' })
      await node.kill9()
      await node.restart()
      expect(await node.get('hello')).toMatchObject({ status: 200, text: 'hello' })
      expect((await node.isola('list', '--json')).code).toBe(0)
    })
  })

  test('that is a file or cannot be written to is refused with the reason and the way out', async () => {
    writeFileSync(join(root, 'file'), '')
    const file = await runIsola([...UP, '--data', join(root, 'file')])
    expect(file.code).toBe(3)
    expect(JSON.parse(file.stdout)).toMatchObject({ error: { code: 'data_unusable' } })
    await withTmpfs({ sizeBytes: 8 << 20 }, async (directory, { makeReadOnly }) => {
      makeReadOnly()
      const readOnly = await runIsola([...UP, '--data', join(directory, 'data')])
      expect(readOnly.code).toBe(3)
      expect(JSON.parse(readOnly.stdout)).toMatchObject({
        error: { code: 'data_unusable', message: expect.stringMatching(/read-only.*--data/s) },
      })
    })
  })

  test('that is full refuses deploys by name, goes on serving, and takes deploys again when there is room', async () => {
    await withTmpfs({ sizeBytes: 16 << 20 }, async (directory) => {
      const data = join(directory, 'data')
      mkdirSync(data)
      await withNode(data, async (node) => {
        await node.deploy('hello', HELLO)
        const ballast = join(directory, 'ballast')
        fill(ballast)
        const large = `// ${'x'.repeat(3 << 20)}\n${HELLO.replace('hello', 'large')}`
        await expect(node.deploy('hello', large)).rejects.toMatchObject({ code: 'storage_full' })
        expect(await node.get('hello')).toMatchObject({ status: 200, text: 'hello' })
        rmSync(ballast)
        await node.deploy('hello', large)
        expect((await node.get('hello')).text).toBe('large')
      })
    })
  })
})

describe('a version whose modules are lost', () => {
  test('fails its requests as start_failed with a time to come back, and a good deploy serves at once', async () => {
    const data = join(root, 'data')
    // Longer than what is kept in rows.
    const source = `// ${'x'.repeat(100_000)}\n${HELLO}`
    await withNode(data, async (node) => {
      await node.deploy('hello', source)
      await node.deploy('neighbour', HELLO)
    })
    for (const file of readdirSync(join(data, 'bucket', 'objects')))
      rmSync(join(data, 'bucket', 'objects', file))
    await withNode(data, async (node) => {
      const failed = await node.get('hello')
      expect(failed).toMatchObject({ status: 503, code: 'start_failed' })
      expect(Number(failed.retryAfter)).toBeGreaterThan(0)
      // Longer each time.
      await untilSo(async () => Number((await node.get('hello')).retryAfter) > 1)
      expect(await node.get('neighbour')).toMatchObject({ status: 200 })
      await node.deploy('hello', HELLO.replace('hello', 'repaired'))
      expect((await node.get('hello')).text).toBe('repaired')
    })
  })
})

describe('the token', () => {
  test('is readable by its owner only, and nothing of the control API answers without it', async () => {
    await withNode(root, async (node) => {
      expect(statSync(join(root, 'token')).mode & 0o777).toBe(0o600)
      for (const authorization of [
        undefined,
        'Bearer wrong',
        `Basic ${node.token}`,
        'Bearer ',
        `Bearer ${node.token}x`,
      ]) {
        for (const path of ['/v1/status', '/v1/functions', '/v1/nothing']) {
          const response = await fetch(`${node.controlUrl}${path}`, {
            headers: authorization === undefined ? {} : { authorization },
          })
          expect([path, authorization, response.status]).toEqual([path, authorization, 401])
          expect(await response.json()).toMatchObject({ error: { code: 'unauthorized' } })
        }
      }
    })
  })
})

describe('a node.json left by a node that was killed', () => {
  test('is said to be of no running node, and the next node replaces it', async () => {
    await withNode(root, async (node) => {
      await node.kill9()
      const stale = JSON.parse(readFileSync(join(root, 'node.json'), 'utf8')) as { pid: number }
      const outcome = await node.isola('list', '--json')
      expect(outcome.code).not.toBe(0)
      expect(JSON.parse(outcome.stdout)).toMatchObject({ error: { code: 'node_unreachable' } })
      await node.restart()
      const fresh = JSON.parse(readFileSync(join(root, 'node.json'), 'utf8')) as { pid: number }
      expect(fresh.pid).not.toBe(stale.pid)
      expect((await node.isola('list', '--json')).code).toBe(0)
    })
  })
})

/** Until the file system has not a byte left. */
function fill(file: string): void {
  const part = Buffer.alloc(64 * 1024)
  try {
    for (;;) writeFileSync(file, part, { flag: 'a' })
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
  }
}
