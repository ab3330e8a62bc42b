import { describe, expect, test } from 'vitest'
import type { FunctionRecord, Head } from '../../sdk/model/function.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import { NO_SETTINGS } from '../../sdk/model/settings.ts'
import { limitLogs, logBytesOf, LogQuota } from '../../runtime/node/log-quota.ts'

const TIME = '2026-01-01T00:00:00.000Z'
const line = (message: string, more: Partial<LogLine> = {}): LogLine => ({
  time: TIME,
  source: 'console',
  level: 'log',
  functionName: 'chatty',
  versionId: 'v1',
  instanceId: 'i1',
  message,
  ...more,
})

describe('a function’s log', () => {
  test('takes what fits its minute, says once that the rest is dropped, and in the end how much it was', () => {
    const quota = new LogQuota(() => 10)
    const first = line('12345')
    expect(quota.admit(first, 0)).toBe(first)
    expect(quota.admit(first, 1)).toBe(first)
    expect(quota.admit(line('x'), 15_000)).toEqual({
      time: TIME,
      source: 'instance',
      level: 'warn',
      functionName: 'chatty',
      versionId: 'v1',
      message:
        'log_limit_exceeded: limit of 10 bytes a minute reached, what goes beyond it in the next 45 s is dropped: ' +
        'write less, or raise it with: isola limits chatty --logs SIZE',
    })
    for (let count = 0; count < 99; count += 1) expect(quota.admit(line('yy'), 16_000)).toBeUndefined()
    expect(quota.endMinutes(59_999, TIME)).toEqual([])
    expect(quota.nextEndMs).toBe(60_000)
    expect(quota.endMinutes(60_000, TIME).map(({ message }) => message)).toEqual([
      'log_limit_exceeded: limit of 10 bytes a minute reached, 100 lines dropped (199 bytes)',
    ])
    expect(quota.nextEndMs).toBeUndefined()
    expect(quota.admit(first, 60_001)).toBe(first)
  })

  test('of a function within its limit has nothing to say at the end of a minute', () => {
    const quota = new LogQuota(() => 10)
    quota.admit(line('12345'), 0)
    expect(quota.endMinutes(60_000, TIME)).toEqual([])
    expect(quota.nextEndMs).toBeUndefined()
  })

  test('counts bytes and not characters, and stacks too', () => {
    const quota = new LogQuota(() => 7)
    expect(quota.admit(line('éé'), 0)?.message).toBe('éé')
    expect(quota.admit(line('e', { source: 'exception', stack: '123' }), 0)?.source).toBe('instance')
    expect(quota.admit(line('e', { source: 'exception', stack: '12' }), 0)?.source).toBe('exception')
  })

  test('never loses what isola says of requests and instances', () => {
    const quota = new LogQuota(() => 0)
    for (const source of ['request', 'instance'] as const) {
      const own = line('long '.repeat(100), { source })
      expect(quota.admit(own, 0)).toBe(own)
    }
    expect(quota.nextEndMs).toBeUndefined()
  })

  test('is limited for itself: a neighbour’s flood takes nothing of it', () => {
    const quota = new LogQuota(() => 5)
    for (let count = 0; count < 10; count += 1) quota.admit(line('12345'), 0)
    const other = line('12345', { functionName: 'quiet' })
    expect(quota.admit(other, 0)).toBe(other)
    expect(quota.endMinutes(60_000, TIME).map(({ functionName }) => functionName)).toEqual(['chatty'])
  })

  test('has a changed limit at once, within the minute', () => {
    let limitBytes = 5
    const quota = new LogQuota(() => limitBytes)
    quota.admit(line('12345'), 0)
    expect(quota.admit(line('6'), 1)?.source).toBe('instance')
    limitBytes = 100
    expect(quota.admit(line('6'), 2)?.message).toBe('6')
    limitBytes = 1
    expect(quota.admit(line('7'), 3)).toBeUndefined()
  })
})

describe('a limited sink', () => {
  test('writes what is admitted in order and what was dropped when it closes', () => {
    const written: string[] = []
    const logs = limitLogs({ limitBytesOf: () => 3, write: ({ message }) => written.push(message) })
    for (const text of ['ab', 'cd', 'e', 'f']) logs.log(line(text))
    logs.close()
    logs.close()
    expect(written).toEqual([
      'ab',
      expect.stringContaining('log_limit_exceeded: limit of 3 bytes a minute reached, what goes beyond'),
      'e',
      'log_limit_exceeded: limit of 3 bytes a minute reached, 2 lines dropped (3 bytes)',
    ])
  })
})

test('the limit of a head is the function’s own, else the fleet’s, never above the ceiling', () => {
  const functions = {
    own: { name: 'own', limits: { logBytesPerMin: 2_000 } } as FunctionRecord,
    greedy: { name: 'greedy', limits: { logBytesPerMin: 9_000 } } as FunctionRecord,
    plain: { name: 'plain' } as FunctionRecord,
  }
  const settings = { ...NO_SETTINGS, limits: { logBytesPerMin: 3_000 }, ceiling: { logBytesPerMin: 4_000 } }
  const head: Head = { formatVersion: 1, generation: 1, writeId: 'w', functions, settings }
  const limitBytesOf = logBytesOf(head)
  expect(['own', 'greedy', 'plain', 'unknown', 'constructor'].map(limitBytesOf)).toEqual([
    2_000, 4_000, 3_000, 3_000, 3_000,
  ])
})
