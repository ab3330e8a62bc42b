import { mkdtempSync, rmSync, appendFileSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { NODE_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import { LogStore } from '../../runtime/node/log-store.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'isola-logs-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

const line = (message: string, functionName = 'hello'): LogLine => ({
  time: '2026-01-01T00:00:00.000Z',
  source: 'console',
  level: 'log',
  functionName,
  versionId: 'v1',
  message,
})
const messages = (lines: readonly LogLine[]): string[] => lines.map(({ message }) => message)

test('the last lines come back in order, those of other functions do not', async () => {
  const store = new LogStore(directory, expect.unreachable)
  for (let number = 0; number < 2_000; number++) store.append(line(`line ${number}`))
  store.append(line('other', 'neighbour'))
  expect(messages(await store.read('hello', { lines: 3 }))).toEqual(['line 1997', 'line 1998', 'line 1999'])
  expect(await store.read('hello', { lines: 5_000 })).toHaveLength(2_000)
  expect(messages(await store.read('neighbour', { lines: 10 }))).toEqual(['other'])
  expect(await store.read('unknown', { lines: 10 })).toEqual([])
  expect(await store.read('hello', { lines: 0 })).toEqual([])
})

test('a line that a crash cut short is left out, the others are read', async () => {
  const store = new LogStore(directory, expect.unreachable)
  store.append(line('whole'))
  await store.flush()
  appendFileSync(join(directory, 'hello.ndjson'), '{"time":"2026')
  expect(messages(await store.read('hello', { lines: 10 }))).toEqual(['whole'])
})

test('a follower hears new lines at once and no more after it left', async () => {
  const store = new LogStore(directory, expect.unreachable)
  const heard: string[] = []
  const leave = store.follow('hello', ({ message }) => heard.push(message))
  store.append(line('one'))
  store.append(line('else', 'neighbour'))
  leave()
  store.append(line('two'))
  expect(heard).toEqual(['one'])
  await store.flush()
})

test('the file turns over at its size and reading goes on over both', async () => {
  const store = new LogStore(directory, expect.unreachable)
  const long = 'x'.repeat(1_000_000)
  for (let number = 0; number < 20; number++) {
    store.append(line(`${number} ${long}`))
    await store.flush()
  }
  expect(statSync(join(directory, 'hello.ndjson.1')).size).toBeGreaterThan(16_000_000)
  expect(statSync(join(directory, 'hello.ndjson')).size).toBeLessThan(16_000_000)
  const read = await store.read('hello', { lines: 20 })
  expect(read.map(({ message }) => Number.parseInt(message, 10))).toEqual([...Array(20).keys()])
})

test('what comes faster than the disk takes it is dropped, and said', async () => {
  const faults: string[] = []
  const store = new LogStore(directory, (message) => faults.push(message))
  const long = 'x'.repeat(1_000_000)
  for (let number = 0; number < 20; number++) store.append(line(long))
  await store.flush()
  expect(faults.join()).toMatch(/^\d+ log lines were dropped/)
})

test('what is being written counts as waiting, however often it is asked to be written', async () => {
  const faults: string[] = []
  const store = new LogStore(directory, (message) => faults.push(message))
  const half = 'x'.repeat(NODE_LIMITS.logBytesPendingMax / 2 - 1_000)
  for (let number = 0; number < 6; number++) {
    store.append(line(`${number} ${half}`))
    void store.flush()
  }
  await store.flush()
  expect(faults).toEqual(['4 log lines were dropped: they came faster than the disk takes them'])
  store.append(line('after'))
  const read = messages(await store.read('hello', { lines: 10 }))
  expect(read.map((text) => text.slice(0, 5).trim())).toEqual(['0 xxx', '1 xxx', 'after'])
})
