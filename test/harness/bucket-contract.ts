/** What every bucket driver must do, whatever it stands on. Call inside a `describe` of the driver. */
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Bucket } from '../../runtime/registry/bucket.ts'
import { REGISTRY_LIMITS } from '../../sdk/model/limits.ts'

export interface BucketContract {
  /** A new, empty place; `open` opens it, again with what was there after a close. */
  place(): { open(): Bucket; remove(): void }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const KIB = 1024

export function bucketContract(options: BucketContract): void {
  let place: ReturnType<BucketContract['place']>
  let bucket: Bucket
  beforeEach(() => {
    place = options.place()
    bucket = place.open()
  })
  afterEach(() => {
    bucket.close()
    place.remove()
  })
  const keys = async (prefix: string): Promise<string[]> => {
    const found: string[] = []
    for await (const { key } of bucket.list(prefix)) found.push(key)
    return found
  }

  describe('conditional writes', () => {
    test.each([10, 200 * KIB])(
      'of many creators of one key exactly one wins, and its body stays (%i bytes)',
      async (sizeBytes) => {
        const bodies = Array.from({ length: 20 }, () => randomBytes(sizeBytes))
        const results = await Promise.all(bodies.map((body) => bucket.putIfAbsent('race', body)))
        const winners = results.flatMap((result, index) => (result === undefined ? [] : [index]))
        expect(winners).toHaveLength(1)
        const winner = winners[0] ?? -1
        const stored = await bucket.get('race')
        expect(Buffer.compare(stored?.body ?? bytes(''), bodies[winner] ?? bytes('x'))).toBe(0)
        expect(stored?.etag).toBe(results[winner]?.etag)
      },
    )

    test.each([10, 200 * KIB])(
      'of many swaps from one etag exactly one wins (%i bytes)',
      async (sizeBytes) => {
        const first = await bucket.putIfAbsent('swap', bytes('start'))
        const bodies = Array.from({ length: 20 }, () => randomBytes(sizeBytes))
        const results = await Promise.all(
          bodies.map((body) => bucket.putIfMatch('swap', body, first?.etag ?? '')),
        )
        const winners = results.flatMap((result, index) => (result === undefined ? [] : [index]))
        expect(winners).toHaveLength(1)
        const stored = await bucket.get('swap')
        expect(Buffer.compare(stored?.body ?? bytes(''), bodies[winners[0] ?? -1] ?? bytes('x'))).toBe(0)
      },
    )

    test('a swap with a stale etag writes nothing', async () => {
      const first = await bucket.putIfAbsent('doc', bytes('one'))
      const second = await bucket.putIfMatch('doc', bytes('two'), first?.etag ?? '')
      expect(second).toBeDefined()
      expect(await bucket.putIfMatch('doc', bytes('three'), first?.etag ?? '')).toBeUndefined()
      expect(Buffer.from((await bucket.get('doc'))?.body ?? []).toString()).toBe('two')
    })

    test('a swap of an object that is not there writes nothing', async () => {
      expect(await bucket.putIfMatch('gone', bytes('x'), 'some-etag')).toBeUndefined()
      expect(await bucket.get('gone')).toBeUndefined()
    })

    test('a key that was deleted can be created again, and the old etag no longer swaps it', async () => {
      const first = await bucket.putIfAbsent('doc', bytes('one'))
      await bucket.delete('doc')
      expect(await bucket.putIfMatch('doc', bytes('x'), first?.etag ?? '')).toBeUndefined()
      expect(await bucket.putIfAbsent('doc', bytes('two'))).toBeDefined()
      expect(Buffer.from((await bucket.get('doc'))?.body ?? []).toString()).toBe('two')
    })

    test('the etag is what get and head say, and changes with the body', async () => {
      const first = await bucket.putIfAbsent('doc', bytes('one'))
      expect((await bucket.head('doc'))?.etag).toBe(first?.etag)
      expect((await bucket.get('doc'))?.etag).toBe(first?.etag)
      const second = await bucket.putIfMatch('doc', bytes('two'), first?.etag ?? '')
      expect(second?.etag).not.toBe(first?.etag)
      expect((await bucket.head('doc'))?.etag).toBe(second?.etag)
    })
  })

  describe('bodies', () => {
    const inline = REGISTRY_LIMITS.inlineBytesMax
    test.each([0, 1, inline - 1, inline, inline + 1, 10 * KIB * KIB])(
      'a binary body of %i bytes comes back as it was written',
      async (sizeBytes) => {
        const body = randomBytes(sizeBytes)
        await bucket.putIfAbsent('blobs/body', body)
        expect((await bucket.head('blobs/body'))?.sizeBytes).toBe(sizeBytes)
        expect(Buffer.compare((await bucket.get('blobs/body'))?.body ?? bytes('x'), body)).toBe(0)
      },
    )

    test('a body may grow and shrink from swap to swap', async () => {
      let etag = (await bucket.putIfAbsent('doc', bytes('small')))?.etag ?? ''
      for (const body of [randomBytes(2 * inline), randomBytes(3), randomBytes(3 * inline), randomBytes(0)]) {
        etag = (await bucket.putIfMatch('doc', body, etag))?.etag ?? ''
        expect(Buffer.compare((await bucket.get('doc'))?.body ?? bytes('x'), body)).toBe(0)
      }
    })

    test('readers of an object that is being replaced see one body or the other, whole', async () => {
      const body = (fill: number): Uint8Array => new Uint8Array(2 * inline).fill(fill)
      let etag = (await bucket.putIfAbsent('doc', body(0)))?.etag ?? ''
      const writes = (async () => {
        for (let fill = 1; fill <= 20; fill++) {
          etag = (await bucket.putIfMatch('doc', body(fill), etag))?.etag ?? ''
        }
      })()
      for (let read = 0; read < 100; read++) {
        const found = await bucket.get('doc')
        expect(new Set(found?.body).size).toBe(1)
        expect(found?.body.byteLength).toBe(2 * inline)
      }
      await writes
    })

    test('a body beyond the bound is refused', async () => {
      const body = new Uint8Array(REGISTRY_LIMITS.objectBytesMax + 1)
      await expect(bucket.putIfAbsent('doc', body)).rejects.toMatchObject({ code: 'invalid_argument' })
      await expect(bucket.putIfMatch('doc', body, 'e')).rejects.toMatchObject({ code: 'invalid_argument' })
    })
  })

  describe('keys', () => {
    test('list gives the keys under a prefix in byte order, and nothing else', async () => {
      for (const key of [
        'b/2',
        'a',
        'b/10',
        'B/1',
        'b',
        'b-c',
        'b/1/x',
        'c',
        'bb',
        'b/_',
        'b/~'.slice(0, 2) + 'z',
      ]) {
        await bucket.putIfAbsent(key, bytes(key))
      }
      expect(await keys('b/')).toEqual(['b/1/x', 'b/10', 'b/2', 'b/_', 'b/z'])
      expect(await keys('b')).toEqual(['b', 'b-c', 'b/1/x', 'b/10', 'b/2', 'b/_', 'b/z', 'bb'])
      expect(await keys('')).toHaveLength(11)
      expect(await keys('nothing/')).toEqual([])
    })

    test('list goes on past one page, and says sizes', async () => {
      const count = REGISTRY_LIMITS.listPageMax + 5
      for (let index = 0; index < count; index++) {
        await bucket.putIfAbsent(`many/${String(index).padStart(5, '0')}`, new Uint8Array(index % 7))
      }
      let seen = 0
      for await (const { key, sizeBytes, modifiedAtMs } of bucket.list('many/')) {
        expect(key).toBe(`many/${String(seen).padStart(5, '0')}`)
        expect(sizeBytes).toBe(seen % 7)
        expect(modifiedAtMs).toBeGreaterThan(0)
        seen++
      }
      expect(seen).toBe(count)
    })

    test('delete takes the object away, and is no error where there is none', async () => {
      await bucket.putIfAbsent('doc', randomBytes(200 * KIB))
      await bucket.delete('doc')
      await bucket.delete('doc')
      expect(await bucket.get('doc')).toBeUndefined()
      expect(await bucket.head('doc')).toBeUndefined()
      expect(await keys('')).toEqual([])
    })

    test.each([
      '',
      '/a',
      'a/',
      'a//b',
      '..',
      '../a',
      'a/../b',
      'a/./b',
      'a b',
      'a\\b',
      'ä',
      'a\0b',
      'a%2fb',
      'k'.repeat(REGISTRY_LIMITS.keyBytesMax + 1),
    ])('the key %j is refused by every operation', async (key) => {
      const refused = { code: 'invalid_argument' }
      await expect(bucket.get(key)).rejects.toMatchObject(refused)
      await expect(bucket.head(key)).rejects.toMatchObject(refused)
      await expect(bucket.putIfAbsent(key, bytes('x'))).rejects.toMatchObject(refused)
      await expect(bucket.putIfMatch(key, bytes('x'), 'e')).rejects.toMatchObject(refused)
      await expect(bucket.delete(key)).rejects.toMatchObject(refused)
    })

    test('the longest key and every kind of character are taken', async () => {
      const long = 'k'.repeat(REGISTRY_LIMITS.keyBytesMax)
      for (const key of [long, 'A-z_0.9/...', 'constructor']) {
        expect(await bucket.get(key)).toBeUndefined()
        expect(await bucket.putIfAbsent(key, bytes('x'))).toBeDefined()
      }
    })

    test('a prefix that no key can have is refused', async () => {
      await expect(keys('../')).rejects.toMatchObject({ code: 'invalid_argument' })
      await expect(keys('a b')).rejects.toMatchObject({ code: 'invalid_argument' })
    })
  })

  test('what was written is there after closing and opening again, with the same etags', async () => {
    const small = await bucket.putIfAbsent('doc', bytes('small'))
    const large = await bucket.putIfAbsent('blobs/large', new Uint8Array(300 * KIB).fill(7))
    await bucket.putIfAbsent('deleted', bytes('x'))
    await bucket.delete('deleted')
    bucket.close()
    bucket = place.open()
    expect(await keys('')).toEqual(['blobs/large', 'doc'])
    expect((await bucket.get('doc'))?.etag).toBe(small?.etag)
    expect((await bucket.get('blobs/large'))?.body).toHaveLength(300 * KIB)
    expect(await bucket.putIfMatch('blobs/large', bytes('new'), large?.etag ?? '')).toBeDefined()
  })
}
