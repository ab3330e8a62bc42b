import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { WRANGLER_API_LIMITS } from '../../sdk/model/limits.ts'
import {
  HELLO,
  openWranglerPlace,
  SCRIPTS,
  uploadForm,
  type Answer,
  type WranglerPlace,
} from '../harness/wrangler-place.ts'

let place: WranglerPlace
beforeEach(async () => {
  place = await openWranglerPlace()
})
afterEach(() => place.close())

const code = (text: string, metadata = {}): FormData =>
  uploadForm({ keep_bindings: ['secret_text'], ...metadata }, [
    { name: 'index.js', body: `${HELLO} // ${text}` },
  ])
const deployed = async (text: string, metadata = {}): Promise<string> =>
  (await place.call('PUT', `${SCRIPTS}/shop`, code(text, metadata))).result.deployment_id
const uploaded = async (text: string, metadata = {}): Promise<string> =>
  (await place.call('POST', `${SCRIPTS}/shop/versions`, code(text, metadata))).result.id
const split = (shares: Record<string, number>, query = ''): Promise<Answer> =>
  place.call('POST', `${SCRIPTS}/shop/deployments${query}`, {
    strategy: 'percentage',
    versions: Object.entries(shares).map(([version_id, percentage]) => ({ version_id, percentage })),
  })
const shares = (): unknown =>
  place.registry.head.functions['shop']?.deployment.shares.map(({ versionId, percent }) => [
    versionId,
    percent,
  ])
const bare = (uuid: string): string => uuid.replaceAll('-', '')

describe('versions', () => {
  test('are listed newest first with what was said of them, and read by either form of their id', async () => {
    const first = await deployed('one')
    place.nowMs += 1_000
    const second = await uploaded('two', {
      annotations: { 'workers/message': 'try this', 'workers/tag': 'v2' },
      bindings: [{ name: 'S', type: 'secret_text', text: 'hidden' }],
    })
    const { result } = await place.call('GET', `${SCRIPTS}/shop/versions?deployable=true`)
    expect(result.items).toMatchObject([
      {
        id: second,
        number: 2,
        annotations: {
          'workers/message': 'try this',
          'workers/tag': 'v2',
          'workers/triggered_by': 'upload',
        },
      },
      { id: first, number: 1 },
    ])
    for (const id of [second, bare(second)]) {
      const read = await place.call('GET', `${SCRIPTS}/shop/versions/${id}`)
      expect(read.result).toMatchObject({
        id: second,
        metadata: {
          created_on: expect.stringMatching(/^\d{4}-.*Z$/),
          source: 'wrangler',
          has_preview: false,
        },
        resources: {
          script: { handlers: ['fetch'] },
          script_runtime: { compatibility_date: '2026-11-01', compatibility_flags: [] },
          bindings: [{ name: 'S', type: 'secret_text' }],
        },
      })
      expect(JSON.stringify(read.result)).not.toMatch(/hidden|sealed|v1\./)
    }
  })

  test('that are uploaded again are newest again, so that what is kept comes from them', async () => {
    const first = await deployed('one')
    await uploaded('two')
    expect(await uploaded('one')).toBe(first)
    const { result } = await place.call('GET', `${SCRIPTS}/shop/versions`)
    expect(result.items.map(({ id }: { id: string }) => id)[0]).toBe(first)
  })

  test('that there are not, and ids that are none, are refused by the code of a version', async () => {
    await deployed('one')
    for (const id of ['0'.repeat(32), 'latest', '..%2F..%2Fhead']) {
      const answer = await place.call('GET', `${SCRIPTS}/shop/versions/${id}`)
      expect(answer).toMatchObject({ status: 404, success: false, errors: [{ code: 100146 }] })
    }
    expect(await place.call('GET', `${SCRIPTS}/none/versions`)).toMatchObject({
      status: 404,
      errors: [{ code: 10007 }],
    })
  })

  test('have their messages kept for the newest of them only', async () => {
    const { annotatedVersionsMax } = WRANGLER_API_LIMITS
    await deployed('one')
    const annotations = Object.fromEntries(
      Array.from({ length: annotatedVersionsMax }, (_, n) => [`old-${n}`, { message: `${n}` }]),
    )
    await place.registry.swap(({ functions }) => {
      const record = functions['shop']
      if (record?.wrangler === undefined) return functions
      return { ...functions, shop: { ...record, wrangler: { ...record.wrangler, annotations } } }
    })
    const newest = await uploaded('two', { annotations: { 'workers/message': 'newest' } })
    const kept = place.registry.head.functions['shop']?.wrangler?.annotations ?? {}
    expect(Object.keys(kept)).toHaveLength(annotatedVersionsMax)
    expect(kept[bare(newest)]?.message).toBe('newest')
    expect(kept['old-0']).toBeUndefined()
  })
})

describe('deployments', () => {
  test('divide the traffic and are listed newest first', async () => {
    const first = await deployed('one')
    const second = await uploaded('two')
    expect((await split({ [first]: 90, [second]: 10 })).result.id).toBe(
      place.registry.head.functions['shop']?.deployment.id,
    )
    expect(shares()).toEqual([
      [bare(first), 90],
      [bare(second), 10],
    ])
    const { result } = await place.call('GET', `${SCRIPTS}/shop/deployments`)
    expect(result.deployments).toMatchObject([
      {
        strategy: 'percentage',
        source: 'wrangler',
        versions: [
          { version_id: first, percentage: 90 },
          { version_id: second, percentage: 10 },
        ],
      },
      { versions: [{ version_id: first, percentage: 100 }] },
    ])
  })

  test('are listed to a bound, because wrangler asks for every version of each', async () => {
    const { deploymentsListedMax } = WRANGLER_API_LIMITS
    const first = await deployed('one')
    for (let n = 0; n < deploymentsListedMax; n++) await split({ [first]: 100 })
    const { result } = await place.call('GET', `${SCRIPTS}/shop/deployments`)
    expect(result.deployments).toHaveLength(deploymentsListedMax)
  })

  test('with bad percentages, unknown or deleted versions are refused and change nothing', async () => {
    const first = await deployed('one')
    const second = await uploaded('two')
    const before = shares()
    const cases: [Record<string, number>, number, number, RegExp][] = [
      [{ [first]: 50, [second]: 40 }, 400, 10021, /sum to 90 percent/],
      [{ [first]: 0, [second]: 100 }, 400, 10021, /to receive 0 percent/],
      [{ [first]: -50, [second]: 150 }, 400, 10021, /-50 percent/],
      [{ ['1'.repeat(32)]: 100 }, 404, 100146, /no version 11111111-1111/],
      [{ nonsense: 100 }, 404, 100146, /"nonsense" is no version id/],
      [{}, 400, 10021, /at least one version/],
    ]
    for (const [wanted, status, errorCode, message] of cases) {
      expect(await split(wanted)).toMatchObject({
        status,
        errors: [{ code: errorCode, message: expect.stringMatching(message) }],
      })
    }
    expect(await place.call('POST', `${SCRIPTS}/shop/deployments`, '{"versions":')).toMatchObject({
      status: 400,
      success: false,
    })
    expect(shares()).toEqual(before)
  })

  test('that would take back a changed secret are refused once, and done by force', async () => {
    const first = await deployed('one')
    const secret = { name: 'KEY', text: 'new', type: 'secret_text' }
    await place.call('PUT', `${SCRIPTS}/shop/secrets`, secret)
    const current = shares()
    const refused = await split({ [first]: 100 })
    expect(refused).toMatchObject({ errors: [{ code: 10220, message: expect.stringContaining('KEY') }] })
    expect(shares()).toEqual(current)
    expect((await split({ [first]: 100 }, '?force=true')).status).toBe(200)
    expect(shares()).toEqual([[bare(first), 100]])
  })
})
