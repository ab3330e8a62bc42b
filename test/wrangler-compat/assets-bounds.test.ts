import { expect, test } from 'vitest'
import { ASSET_UPLOAD_LIMITS } from '../../sdk/model/limits.ts'
import { createHeldBytes } from '../../wrangler-compat/api/assets/held-bytes.ts'
import { beginUpload, UPLOAD } from '../harness/asset-client.ts'
import { openWranglerPlace } from '../harness/wrangler-place.ts'

test('files wait for room in their order, also behind one that is larger than all of it', async () => {
  const held = createHeldBytes(10)
  const order: string[] = []
  const gates = new Map<string, () => void>()
  const start = (name: string, sizeBytes: number): Promise<void> =>
    held.hold(sizeBytes, async (bytes) => {
      expect(bytes.byteLength).toBe(sizeBytes)
      order.push(name)
      await new Promise<void>((resolve) => gates.set(name, resolve))
    })
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  const first = start('first', 6)
  const second = start('second', 4)
  const large = start('large', 25)
  const last = start('last', 1)
  await turn()
  expect(order).toEqual(['first', 'second'])
  gates.get('first')?.()
  await first
  await turn()
  expect(order).toEqual(['first', 'second'])
  gates.get('second')?.()
  await second
  await turn()
  expect(order).toEqual(['first', 'second', 'large'])
  gates.get('large')?.()
  await large
  await turn()
  expect(order).toEqual(['first', 'second', 'large', 'last'])
  gates.get('last')?.()
  await last
})

test('work that fails gives its room back', async () => {
  const held = createHeldBytes(10)
  await expect(held.hold(10, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken')
  expect(await held.hold(10, async () => 'done')).toBe('done')
})

test('a request that is too long is answered, and not read into memory', async () => {
  const place = await openWranglerPlace()
  try {
    const { result } = await beginUpload(place, 'site', { '/a.txt': { body: 'a' } })
    const answer = await place.call(
      'POST',
      `${UPLOAD}?base64=true`,
      new Uint8Array(ASSET_UPLOAD_LIMITS.bulkRequestBytesMax + 1),
      {
        headers: {
          authorization: `Bearer ${(result as { jwt: string }).jwt}`,
          'content-type': 'multipart/form-data; boundary=xyz',
        },
      },
    )
    expect(answer.status).toBe(413)
    expect(answer.errors[0]?.message).toContain('the request has more than the 67108864 bytes')
  } finally {
    await place.close()
  }
})
