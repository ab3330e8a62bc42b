/** `isola scale` and `isola limits` on a control API in this process: the same code as the command, without a node. */
import { hostname, userInfo } from 'node:os'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { actorOf } from '../../sdk/cli/actor.ts'
import { formatPrewarm, parsePrewarm } from '../../sdk/cli/prewarm.ts'
import { formatRate, parseRatePerS } from '../../sdk/cli/rate.ts'
import { runCommandLine } from '../../sdk/cli/run.ts'
import { formatSize, parseSizeBytes } from '../../sdk/cli/size.ts'
import type { LimitsView, PolicyView, SettingsView } from '../../sdk/model/control.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { DEFAULT_POLICY } from '../../sdk/model/policy.ts'
import type { SettingChange } from '../../sdk/model/settings.ts'
import {
  bundleOf,
  DEPLOY_OPTIONS,
  openControlPlace,
  TOKEN,
  versionOf,
  type ControlPlace,
} from '../harness/control-place.ts'

let place: ControlPlace
beforeEach(async () => {
  place = await openControlPlace()
  await place.client.deployBundle('shop', bundleOf('one'), DEPLOY_OPTIONS)
})
afterEach(() => place.close())

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

async function isola(...argv: readonly string[]): Promise<Outcome> {
  let stdout = ''
  let stderr = ''
  const never = new AbortController().signal
  const code = await runCommandLine({
    argv,
    environment: { ISOLA_CONTROL_URL: place.url, ISOLA_TOKEN: TOKEN },
    workingDirectory: '/',
    streams: {
      stdout: { write: (text: string) => (stdout += text) },
      stderr: { write: (text: string) => (stderr += text) },
    },
    stop: never,
    stopNow: never,
    readerGone: never,
  })
  return { code, stdout, stderr }
}

async function json<T>(...argv: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await isola(...argv, '--json')
  expect([code, stderr]).toEqual([0, ''])
  return JSON.parse(stdout) as T
}

describe('isola scale', () => {
  test('sets every field of the policy, and gives the view as JSON', async () => {
    const counts = '--min 1 --max 8 --concurrency 50 --queue 200 --burst 1000 --quota 900 --weight 2'
    const times = '--idle 5m --pause 2s --queue-timeout 10s --rate 500/s'
    const prewarms = ['--prewarm', '0 8 * * mon-fri → 3 for 2h', '--prewarm', '0 9 * * sat -> 2 for 30m']
    const view = await json<PolicyView>('scale', 'shop', ...`${counts} ${times}`.split(' '), ...prewarms)
    expect(view.set).toEqual({
      min: 1,
      max: 8,
      concurrency: 50,
      idleMs: 300_000,
      pauseMs: 2_000,
      queue: 200,
      queueTimeoutMs: 10_000,
      ratePerS: 500,
      burst: 1_000,
      quota: 900,
      weight: 2,
      prewarm: [
        { schedule: '0 8 * * mon-fri', min: 3, forMs: 7_200_000 },
        { schedule: '0 9 * * sat', min: 2, forMs: 1_800_000 },
      ],
    })
    expect(Object.keys(view.set).sort()).toEqual(Object.keys(DEFAULT_POLICY).sort())
    expect(view).toEqual(await place.client.getPolicy('shop'))
    const words = [
      '--idle',
      'auto',
      '--pause',
      'never',
      '--rate',
      'none',
      '--burst',
      '0',
      '--prewarm',
      'none',
    ]
    expect((await json<PolicyView>('scale', 'shop', ...words)).set).toMatchObject({
      idleMs: 'auto',
      pauseMs: 0,
      ratePerS: 0,
      burst: 0,
      prewarm: [],
    })
  })

  test('shows each field, where it is from, and why there are as many instances', async () => {
    await json('scale', '--fleet', '--max', '4', '--idle', '10m')
    await json('scale', 'shop', '--idle', 'auto', '--rate', '30000/m')
    place.node.scaling = [
      {
        functionName: 'shop',
        versionId: '1a2b3c4d'.repeat(4),
        desired: 3,
        running: 2,
        paused: 1,
        starting: 1,
        reason: '150.0 requests at a time over 6 s are three instances',
        obstacle: 'it keeps failing:\n\u001B[31m  at index.js:1',
        stableConcurrency: 37.256,
        panicConcurrency: 150,
        panicking: true,
      },
    ]
    const { stdout } = await isola('scale', 'shop')
    expect(stdout).toMatch(/^FIELD +VALUE +FROM$/m)
    expect(stdout).toMatch(/^min +0 +default$/m)
    expect(stdout).toMatch(/^max +4 +fleet$/m)
    expect(stdout).toMatch(/^idle +auto +function$/m)
    expect(stdout).toMatch(/^rate +500\/s +function$/m)
    expect(stdout).toMatch(/^quota +no limit +default$/m)
    expect(stdout).toMatch(/^VERSION +WANTED +RUNNING +PAUSED +STARTING +LOAD +LOAD NOW +WHY$/m)
    expect(stdout).toMatch(
      /^1a2b3c4d +3 +2 +1 +1 +37\.26 +150\.00 \(surge\) +150\.0 requests at a time over 6 s are three instances; it keeps failing: \[31m at index\.js:1$/m,
    )
    place.node.scaling = []
    expect((await isola('scale', 'shop')).stdout).toContain('no instances on this node, and none wanted')
    const fleet = (await isola('scale', '--fleet')).stdout
    expect(fleet).toMatch(/^idle +10m +fleet$/m)
    expect(fleet).toMatch(/^rate +no limit +default$/m)
  })

  test('unsets fields by the names of their flags, and by those of the API', async () => {
    await json('scale', 'shop', '--idle', '5m', '--queue-timeout', '5s', '--min', '1', '--max', '2')
    const view = await json<PolicyView>('scale', 'shop', '--unset', 'idle,queue-timeout', '--unset', 'min')
    expect(view.set).toEqual({ max: 2 })
    expect((await json<PolicyView>('scale', 'shop', '--unset', 'idleMs, max')).set).toEqual({})
    await json('scale', '--fleet', '--max', '3')
    expect((await json<SettingsView>('scale', '--fleet', '--unset', 'max')).policy).toEqual({})
  })

  test('lists who changed what and when', async () => {
    expect((await isola('scale', 'shop', '--history')).stdout).toBe('nothing was ever changed\n')
    await json('scale', 'shop', '--min', '1', '--idle', '5m')
    await json('scale', 'shop', '--unset', 'min', '--prewarm', '0 8 * * mon-fri = 3 for 2h')
    await json('limits', 'shop', '--memory', '256')
    const { changes } = await json<{ changes: SettingChange[] }>('scale', 'shop', '--history')
    const me = actorOf(userInfo().username, hostname())
    expect(changes.map(({ by, after }) => [by, after])).toEqual([
      [me, { min: null, prewarm: [{ schedule: '0 8 * * mon-fri', min: 3, forMs: 7_200_000 }] }],
      [me, { min: 1, idleMs: 300_000 }],
    ])
    const [heading, newest, oldest] = (await isola('scale', 'shop', '--history')).stdout.split('\n')
    expect(heading).toMatch(/^WHEN +WHO +CHANGE$/)
    expect(newest).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ {2}\S/)
    expect(newest).toContain(me)
    expect(newest).toMatch(/prewarm unset → 0 8 \* \* mon-fri → 3 for 2h, min 1 → unset$/)
    expect(oldest).toMatch(/min unset → 1, idle unset → 5m$/)
    await json('scale', '--fleet', '--max', '3')
    expect((await isola('scale', '--fleet', '--history')).stdout).toMatch(/max unset → 3$/m)
  })

  test.each([
    ['nothing to scale', [], 'isola scale FN, or isola scale --fleet'],
    ['a function and the fleet', ['shop', '--fleet'], 'a function or --fleet, not both'],
    ['a field set and unset', ['shop', '--min', '1', '--unset', 'min'], '--min is set and unset'],
    ['an unknown field to unset', ['shop', '--unset', 'idel'], 'did you mean idle?'],
    [
      'a history with a change',
      ['shop', '--history', '--min', '1'],
      '--history lists changes and makes none',
    ],
    ['a rate that is none', ['shop', '--rate', 'fast'], '--rate is "fast": give requests per time'],
    ['a rate per day', ['shop', '--rate', '5/d'], '--rate is "5/d"'],
    ['a prewarm without a time', ['shop', '--prewarm', '0 8 * * * = 3'], 'write "CRON → MIN for TIME"'],
    [
      'a prewarm of none and some',
      ['shop', '--prewarm', 'none', '--prewarm', '* * * * * = 1 for 1m'],
      '"none"',
    ],
    ['a pause without a unit', ['shop', '--pause', '2'], '--pause is "2": give a time with its unit'],
  ])('%s is refused with exit code 2, and nothing is changed', async (_what, words, message) => {
    const before = place.registry.head.generation
    const { code, stderr } = await isola('scale', ...words)
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)])
    expect(place.registry.head.generation).toBe(before)
  })

  test('what the node refuses is exit code 1 with the values', async () => {
    for (const [words, message] of [
      [['shop', '--min', '3', '--max', '2'], 'policy min 3 is above max 2'],
      [['shop', '--prewarm', '0 99 * * * = 3 for 2h'], '"0 99 * * *" is no cron expression'],
      [['nobody', '--min', '1'], 'there is no function "nobody"'],
      [['nobody'], 'there is no function "nobody"'],
    ] as const) {
      const { code, stderr } = await isola('scale', ...words)
      expect([code, stderr]).toEqual([1, expect.stringContaining(message)])
    }
  })
})

describe('isola limits', () => {
  test('sets every limit, and gives the view as JSON', async () => {
    const usage = '--cpu 500ms --wall 30s --memory 256 --subrequests 50'
    const sizes = '--request-body 10MB --response-body 50MiB --logs 512K'
    const egress = ['--egress', 'api.example.com, *.example.org']
    const view = await json<LimitsView>('limits', 'shop', ...`${usage} ${sizes}`.split(' '), ...egress)
    expect(view.set).toEqual({
      cpuMs: 500,
      wallMs: 30_000,
      memoryMib: 256,
      subrequests: 50,
      requestBytes: 10_000_000,
      responseBytes: 50 * 1024 * 1024,
      logBytesPerMin: 512 * 1024,
      egress: ['api.example.com', '*.example.org'],
    })
    expect(view).toEqual(await place.client.getLimits('shop'))
    const again = await json<LimitsView>(
      'limits',
      'shop',
      '--memory',
      '1G',
      '--egress',
      'none',
      '--unset',
      'cpu',
    )
    expect(again.set).toMatchObject({ memoryMib: 1_024, egress: 'none' })
    expect(again.set.cpuMs).toBeUndefined()
  })

  test('shows each limit, where it is from, and the ceiling that holds it', async () => {
    const asking = { ...DEPLOY_OPTIONS, limits: { cpuMs: 700 } }
    const two = versionOf(await place.client.deployBundle('shop', bundleOf('two'), asking))
    await json('limits', 'shop', '--memory', '512', '--egress', 'a.example,*.b.example')
    await json('limits', '--fleet', '--wall', '30s')
    const held = (await isola('limits', '--ceiling', '--memory', '256', '--cpu', '1s')).stdout
    expect(held).toMatch(/^memory +256MiB +fleet$/m)
    expect(held).toMatch(/^wall +1d +isola$/m)
    expect(held).toContain('held down to it:\n  shop: memory 512MiB → 256MiB')
    const { stdout } = await isola('limits', 'shop')
    expect(stdout).toMatch(/^LIMIT +VALUE +FROM +CEILING$/m)
    expect(stdout).toMatch(new RegExp(`^cpu +700ms +version ${two.slice(0, 8)} +1s$`, 'm'))
    expect(stdout).toMatch(/^wall +30s +fleet +-$/m)
    expect(stdout).toMatch(/^memory +256MiB +ceiling \(function: 512MiB\) +256MiB$/m)
    expect(stdout).toMatch(/^request-body +100MiB +default +-$/m)
    expect(stdout).toMatch(/^logs +16MiB a minute +default +-$/m)
    expect(stdout).toMatch(/^egress +a\.example,\*\.b\.example +function +-$/m)
    await isola('limits', '--ceiling', '--wall', '10s')
    expect((await isola('limits', '--fleet')).stdout).toMatch(/^wall +10s +ceiling \(fleet: 30s\) +10s$/m)
    expect((await isola('limits', '--ceiling', '--unset', 'memory,cpu,wall')).stdout).not.toContain('held')
  })

  test('shows what other versions in service ask for', async () => {
    const first = await place.client.getFunction('shop')
    const second = await place.client.deployBundle('shop', bundleOf('two'), {
      ...DEPLOY_OPTIONS,
      limits: { cpuMs: 700, memoryMib: 64 },
    })
    const [one, two] = [first, second].map(({ deployment }) => deployment.shares[0]?.versionId ?? '')
    const shares = [
      { versionId: one ?? '', percent: 90 },
      { versionId: two ?? '', percent: 10 },
    ]
    await place.client.setTraffic('shop', { shares })
    const { stdout } = await isola('limits', 'shop')
    expect(stdout).toMatch(/^cpu +10s +default +-$/m)
    expect(stdout).toContain(`version ${two?.slice(0, 8)} asks for cpu 700ms\n`)
    expect(stdout).toContain(`version ${two?.slice(0, 8)} asks for memory 64MiB\n`)
  })

  test('lists who changed what, of a function, the fleet and the ceiling', async () => {
    await json('limits', 'shop', '--memory', '256', '--egress', 'none')
    await json('limits', '--fleet', '--logs', '1MiB')
    await json('limits', '--ceiling', '--memory', '1G')
    for (const [words, line] of [
      [['shop'], /memory unset → 256MiB, egress unset → none$/m],
      [['--fleet'], /logs unset → 1MiB a minute$/m],
      [['--ceiling'], /memory unset → 1GiB$/m],
    ] as const) {
      const text = (await isola('limits', ...words, '--history')).stdout
      expect(text).toMatch(line)
      expect(text.trimEnd().split('\n')).toHaveLength(2)
    }
    expect((await isola('scale', 'shop', '--history')).stdout).toBe('nothing was ever changed\n')
  })

  test.each([
    ['nothing to limit', [], 'isola limits FN, isola limits --fleet or isola limits --ceiling'],
    ['a function and the ceiling', ['shop', '--ceiling'], 'takes one of a function, --fleet and --ceiling'],
    ['fleet and ceiling', ['--fleet', '--ceiling'], 'takes one of'],
    ['a ceiling of egress', ['--ceiling', '--egress', 'none'], 'a ceiling has no --egress'],
    ['a size without a unit', ['shop', '--logs', '1000'], '--logs is "1000": give a size with its unit'],
    ['a size that is none', ['shop', '--request-body', 'big'], '--request-body is "big"'],
    ['memory that is not whole', ['shop', '--memory', '256MB'], 'which is 244.14 MiB: give whole MiB'],
    ['memory that is none', ['shop', '--memory', 'lots'], '--memory is "lots": give whole MiB'],
    ['an empty host', ['shop', '--egress', 'a.example,'], 'give public, none, or hosts with ","'],
    ['a limit set and unset', ['shop', '--cpu', '1s', '--unset', 'cpu'], '--cpu is set and unset'],
    ['an unknown limit', ['shop', '--unset', 'memry'], 'did you mean memory?'],
  ])('%s is refused with exit code 2', async (_what, words, message) => {
    const { code, stderr } = await isola('limits', ...words)
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)])
  })

  test('what is above the ceiling is exit code 1 with both values', async () => {
    await json('limits', '--ceiling', '--memory', '256')
    const { code, stderr } = await isola('limits', 'shop', '--memory', '512')
    expect([code, stderr]).toEqual([1, expect.stringContaining("is 512 and the fleet's ceiling is 256")])
  })
})

describe('what is typed', () => {
  test.each([
    ['512K', 524_288, '512KiB'],
    ['512KiB', 524_288, '512KiB'],
    ['10MB', 10_000_000, '10MB'],
    ['10mb', 10_000_000, '10MB'],
    ['1.5GiB', 1_610_612_736, '1536MiB'],
    ['1G', 1_073_741_824, '1GiB'],
    ['1KB', 1_000, '1KB'],
    ['1001b', 1_001, '1001B'],
    ['0', 0, '0B'],
  ])('the size %s is %d bytes, shown as %s', (text, sizeBytes, shown) => {
    expect(parseSizeBytes(text)).toBe(sizeBytes)
    expect(formatSize(sizeBytes)).toBe(shown)
    expect(parseSizeBytes(shown)).toBe(sizeBytes)
  })

  test.each(['', '10', 'MB', '-1MB', '10 MB', '1e3K', '10TB', '0x10K', '1.K'])('%j is no size', (text) => {
    expect(parseSizeBytes(text)).toBeUndefined()
  })

  test.each([
    ['500/s', 500, '500/s'],
    ['500', 500, '500/s'],
    ['30000/m', 500, '500/s'],
    ['0.5', 0.5, '0.5/s'],
    ['7/m', 7 / 60, '7/m'],
    ['1/h', 1 / 3_600, '1/h'],
    ['none', 0, '0/s'],
  ])('the rate %s is %d a second, shown as %s', (text, ratePerS, shown) => {
    expect(parseRatePerS(text)).toBe(ratePerS)
    expect(formatRate(ratePerS)).toBe(shown)
  })

  test.each(['', '/s', '5/', '-5', '5/d', '1e3', '5 /s', 'all'])('%j is no rate', (text) => {
    expect(parseRatePerS(text)).toBeUndefined()
  })

  test.each([
    '0 8 * * mon-fri → 3 for 2h',
    '0 8 * * mon-fri->3 for 2h',
    ' 0 8 * * mon-fri  =  3  for  120m ',
  ])('the prewarm %j is read, and shown in one way', (text) => {
    const prewarm = parsePrewarm(text)
    expect(prewarm).toEqual({ schedule: '0 8 * * mon-fri', min: 3, forMs: 7_200_000 })
    expect(formatPrewarm(prewarm!)).toBe('0 8 * * mon-fri → 3 for 2h')
  })

  test.each(['', '→ 3 for 2h', '0 8 * * * 3 for 2h', '0 8 * * * → x for 2h', '0 8 * * * → 3 for 2'])(
    '%j is no prewarm',
    (text) => {
      expect(parsePrewarm(text)).toBeUndefined()
    },
  )

  test('a name that no header can carry is written as far as it can', () => {
    expect(actorOf('jürgen', 'büro')).toBe('j?rgen@b?ro')
    expect(actorOf('x'.repeat(500), 'host')).toHaveLength(CONTROL_LIMITS.actorCharsMax)
  })
})
