import { expect, test } from 'vitest'
import { createConfigCache } from '../../runtime/isolate/config-cache.ts'
import { createUidPool } from '../../runtime/isolate/uid-pool.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import { loadTestModules, versionOf } from '../harness/isolate-driver.ts'
import type { WorkerVersion } from '../../sdk/model/function.ts'

const sized = (name: string, bytes: number): WorkerVersion =>
  versionOf({ name, main: `export default {} // ${'x'.repeat(bytes)}` })

test('a version is loaded once, also for starts at the same time', async () => {
  let loads = 0
  const loadModules = (): ReturnType<typeof loadTestModules> => {
    loads++
    return loadTestModules()
  }
  const cache = createConfigCache({ loadModules, socketDirectory: '/s' })
  const version = sized('one', 10)
  const [first, second] = await Promise.all([cache.load(version), cache.load(version)])
  expect(second).toBe(first)
  expect(await cache.load(version)).toBe(first)
  expect(loads).toBe(1)
})

test('the cache stays within its bytes, and drops what was not used for longest', async () => {
  const versions = ['a', 'b', 'c'].map((name) => sized(name, 10_000))
  const unbounded = createConfigCache({ loadModules: loadTestModules, socketDirectory: '/s' })
  await unbounded.load(versions[0]!)
  const bytesMax = Math.floor(2.5 * unbounded.bytes)
  const cache = createConfigCache({ loadModules: loadTestModules, socketDirectory: '/s', bytesMax })
  const [a, b] = [await cache.load(versions[0]!), await cache.load(versions[1]!)]
  await cache.load(versions[0]!)
  await cache.load(versions[2]!)
  expect(cache.bytes).toBeLessThanOrEqual(bytesMax)
  // Compared outside of expect: a failure would print both configs.
  expect((await cache.load(versions[0]!)) === a).toBe(true)
  expect((await cache.load(versions[1]!)) === b).toBe(false)
})

test('what is larger than the whole cache is used but not kept', async () => {
  const cache = createConfigCache({ loadModules: loadTestModules, socketDirectory: '/s', bytesMax: 100_000 })
  expect((await cache.load(sized('large', 300_000))).config.length).toBeGreaterThan(300_000)
  expect(cache.bytes).toBe(0)
})

test('a load that failed is tried again', async () => {
  const answers = [Promise.reject(new Error('bucket away')), loadTestModules()]
  const cache = createConfigCache({ loadModules: () => answers.shift()!, socketDirectory: '/s' })
  await expect(cache.load(sized('again', 1))).rejects.toThrow('bucket away')
  expect((await cache.load(sized('again', 1))).config.length).toBeGreaterThan(0)
})

test('user ids are handed out once, returned late, and run out by name', () => {
  const pool = createUidPool({ name: 'node', own: false })
  const uids = Array.from({ length: INSTANCE_LIMITS.uidsMax }, () => pool.take())
  expect(new Set(uids).size).toBe(INSTANCE_LIMITS.uidsMax)
  expect(() => pool.take()).toThrow(expect.objectContaining({ code: 'node_full' }) as Error)
  pool.release(uids[7]!)
  expect(pool.take()).toBe(uids[7])
  const other = createUidPool({ name: 'other', own: false })
  expect(uids).not.toContain(other.take())
})

test('a user id that an adopted instance has is not given to another', () => {
  const free = createUidPool({ name: 'node', own: false }).take()
  const pool = createUidPool({ name: 'node', own: false })
  pool.reserve(free)
  expect(pool.take()).not.toBe(free)
})
