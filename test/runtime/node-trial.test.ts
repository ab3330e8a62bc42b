/** What a deploy is told when its trial start fails, by whose fault it is. */
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startWorkNode } from '../harness/work-node.ts'

test('a version that cannot start is refused; a blob that is damaged is the fault of the node, and is named as such', async () => {
  const node = await startWorkNode()
  try {
    await expect(node.deploy('broken', 'throw new Error("never")')).rejects.toMatchObject({
      code: 'version_refused',
      message: expect.stringContaining('never'),
    })
    // Long enough to be a file of its own in the bucket.
    const source = `export default { fetch: () => new Response('hello') } // ${'x'.repeat(100_000)}`
    await node.deploy('first', source)
    const objects = join(node.dataDirectory, 'bucket/objects')
    expect(readdirSync(objects)).toHaveLength(1)
    for (const file of readdirSync(objects)) rmSync(join(objects, file))
    await expect(node.deploy('second', source)).rejects.toMatchObject({
      code: 'data_unusable',
      message: expect.stringContaining('is missing'),
    })
    expect(await node.get('first')).toMatchObject({ status: 200, text: 'hello' })
  } finally {
    await node.stop()
  }
})
