import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { BUILD_LIMITS } from '../../sdk/model/limits.ts'
import type { UsageHour } from '../../sdk/model/usage.ts'
import { type CommandOutcome, runIsola } from '../harness/node.ts'

let directory: string
let server: Server
let asked: URL[]
let hours: UsageHour[]

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'isola-usage-'))
  server = createServer((request, response) => {
    asked.push(new URL(request.url ?? '', 'http://node'))
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ hours, lagS: 3 }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterAll(() => {
  server.close()
  rmSync(directory, { recursive: true, force: true })
})

const hour = (functionName: string, at: string, numbers: Partial<UsageHour> = {}): UsageHour => ({
  functionName,
  hour: `2026-11-21T${at}:00:00.000Z`,
  requests: 0,
  refused: 0,
  coldStarts: 0,
  cpuMs: 0,
  gbS: 0,
  responseBytes: 0,
  egressBytes: 0,
  ...numbers,
})
beforeEach(() => {
  asked = []
  hours = [
    hour('shop', '13', { requests: 1_000_000, coldStarts: 500, cpuMs: 250_000, gbS: 10, egressBytes: 2e9 }),
    hour('blog', '14', { requests: 10, refused: 2, cpuMs: 0.5, gbS: 0.25, responseBytes: 2_048 }),
    hour('shop', '14', { requests: 500_000, coldStarts: 1, cpuMs: 250_000 }),
  ]
})

const usage = (...words: readonly string[]): Promise<CommandOutcome> => {
  const { port } = server.address() as AddressInfo
  const env = { ISOLA_CONTROL_URL: `http://127.0.0.1:${port}`, ISOLA_TOKEN: 'token' }
  return runIsola(['usage', ...words], { cwd: directory, env })
}
const prices = (text: string): string => {
  const file = join(directory, 'prices.jsonc')
  writeFileSync(file, text)
  return file
}

describe('isola usage', () => {
  test('sums up by function, with a total, of the last day', async () => {
    const beforeMs = Date.now()
    const { stdout, code } = await usage()
    expect(code).toBe(0)
    const since = Date.parse(asked[0]?.searchParams.get('since') ?? '')
    expect(since).toBeGreaterThanOrEqual(beforeMs - 24 * 3_600_000)
    expect(since).toBeLessThanOrEqual(Date.now() - 24 * 3_600_000)
    const lines = stdout.split('\n').map((line) => line.split(/ {2,}/))
    expect(stdout).toContain('the last 3 s may be missing')
    expect(lines.slice(2)).toEqual([
      ['FUNCTION', 'REQUESTS', 'REFUSED', 'COLD', 'CPU-MS', 'GB-S', 'SENT', 'EGRESS'],
      ['blog', '10', '2', '0', '1', '0.250', '2.0 KiB', '0 B'],
      ['shop', '1500000', '0', '501', '500000', '10.000', '0 B', '1.9 GiB'],
      ['total', '1500010', '2', '501', '500001', '10.250', '2.0 KiB', '1.9 GiB'],
      [''],
    ])
  })

  test('shows the hours of one function, from a day on', async () => {
    hours = hours.filter(({ functionName }) => functionName === 'shop')
    const { stdout } = await usage('shop', '--by', 'hour', '--since', '2026-11-01', '--json')
    expect(asked[0]?.searchParams.get('function')).toBe('shop')
    expect(asked[0]?.searchParams.get('since')).toBe('2026-11-01T00:00:00.000Z')
    const document = JSON.parse(stdout) as { since: string; rows: UsageHour[]; total: UsageHour }
    expect(document).toMatchObject({ since: '2026-11-01T00:00:00.000Z', by: 'hour', lagS: 3 })
    expect(document.rows).toEqual(hours)
    expect(document.total).toMatchObject({ requests: 1_500_000, cpuMs: 500_000 })
    expect(document.total).not.toHaveProperty('cost')
  })

  test('says so where nothing was used', async () => {
    hours = []
    const { stdout } = await usage('--since', '2026-11-01T08:30:00+02:00')
    expect(stdout).toBe('nothing was used since 2026-11-01 06:00\n')
    expect(JSON.parse((await usage('--json')).stdout)).toMatchObject({ rows: [], total: { requests: 0 } })
  })

  test('adds what it costs by the price table, in its currency', async () => {
    const file = prices(`{
      // as the cloud around the corner charges
      "currency": "EUR",
      "perMillionRequests": 0.3,
      "perMillionCpuMs": 0.02,
      "perGbS": 0.0000166,
      "perEgressGb": 0.05,
      "perThousandColdStarts": 2,
    }`)
    const { stdout, code } = await usage('--prices', file)
    expect(code).toBe(0)
    const costs = stdout
      .slice(stdout.indexOf('costs in EUR'))
      .split('\n')
      .map((line) => line.split(/ {2,}/))
    expect(costs.slice(2)).toEqual([
      ['FUNCTION', 'REQUESTS', 'COLD', 'CPU', 'MEMORY', 'EGRESS', 'TOTAL'],
      ['blog', '0.000003', '0.00', '0.00', '0.000004', '0.00', '0.000007'],
      ['shop', '0.45', '1.002', '0.01', '0.000166', '0.10', '1.562166'],
      ['total', '0.450003', '1.002', '0.01', '0.00017', '0.10', '1.562173'],
      [''],
    ])
    const document = JSON.parse((await usage('--prices', file, '--json')).stdout) as {
      currency: string
      rows: { cost: object }[]
    }
    expect(document.currency).toBe('EUR')
    expect(document.rows[1]?.cost).toEqual({
      requests: 0.45,
      coldStarts: 1.002,
      cpu: 0.01,
      memory: 0.000166,
      egress: 0.1,
      total: 1.562166,
    })
  })

  test.each([
    ['a time without a unit', ['--since', '24'], '--since is "24": give how long back'],
    ['a day that is none', ['--since', '2026-02-31'], '--since is "2026-02-31"'],
    ['a month that is none', ['--since', '2026-13-01'], '--since is "2026-13-01"'],
    ['a time without its zone', ['--since', '2026-11-01T08:00'], '--since is "2026-11-01T08:00"'],
    ['a time to come', ['--since', '2999-01-01'], 'which is still to come'],
    ['rows by what there is not', ['--by', 'day'], '--by is "day": give function or hour'],
  ])('%s is refused with exit code 2', async (_what, words, message) => {
    const { code, stderr, stdout } = await usage(...words)
    expect(stderr).toContain(message)
    expect([code, stdout, asked]).toEqual([2, '', []])
  })

  test.each([
    [
      'a negative price',
      '{"currency": "EUR", "perGbS": -1}',
      ':1:21 has perGbS -1: give a number of 0 or more',
    ],
    ['a price in quotes', '{"currency": "EUR", "perGbS": "1"}', 'has perGbS "1"'],
    ['a price beyond numbers', '{"currency": "EUR", "perGbS": 1e999}', 'the number Infinity is not usable'],
    ['a price of null', '{"currency": "EUR", "perGbS": null}', 'has perGbS null'],
    [
      'an unknown field',
      '{"currency": "EUR", "perGBs": 1}',
      'field "perGBs" that no price table has: did you mean "perGbS"?',
    ],
    ['a far unknown field', '{"currency": "EUR", "x": 1}', 'the fields are currency, perMillionRequests'],
    ['no currency', '{"perGbS": 1}', 'has no currency: give a short name'],
    ['a currency that moves the cursor', '{"currency": "\\u001b[2J"}', String.raw`has currency "\u001b[2J"`],
    ['a field twice', '{"currency": "EUR", "currency": "USD"}', 'twice'],
    ['a list', '[]', 'is no price table'],
    ['no JSON', 'currency: EUR', 'prices.jsonc'],
  ])('a price table with %s is refused by its file, and nothing is asked', async (_what, text, message) => {
    const { code, stderr } = await usage('--prices', prices(text))
    expect(stderr).toContain('prices.jsonc')
    expect(stderr).toContain(message)
    expect([code, asked]).toEqual([1, []])
  })

  test('a price table that is missing, a directory or huge is refused', async () => {
    const missing = await usage('--prices', 'missing.json')
    expect(missing.stderr).toContain('cannot read the price table')
    expect(missing.stderr).toContain('missing.json')
    expect((await usage('--prices', '.')).stderr).toContain('is no file')
    const file = prices('')
    truncateSync(file, BUILD_LIMITS.configBytesMax + 1)
    const long = await usage('--prices', file)
    expect(long.stderr).toContain(String(BUILD_LIMITS.configBytesMax))
    expect([missing.code, long.code, asked]).toEqual([1, 1, []])
  })
})
