import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openLogStream } from '../../runtime/control/log-stream.ts'
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import type { LogLine } from '../../sdk/model/log-line.ts'
import {
  bundleOf,
  DEPLOY_OPTIONS,
  logLine,
  openControlPlace,
  type ControlPlace,
} from '../harness/control-place.ts'

let place: ControlPlace
beforeEach(async () => {
  place = await openControlPlace({ logHeartbeatMs: 20 })
  await place.client.deployBundle('shop', bundleOf('one'), DEPLOY_OPTIONS)
})
afterEach(() => place.close())

const write = (message: string): void => {
  for (const follower of place.followers) follower(logLine(message))
}

describe('reading logs', () => {
  test('gives the last lines, oldest first, and ends', async () => {
    place.node.past = Array.from({ length: 200 }, (_, index) => logLine(`line ${index}`))
    const seen: string[] = []
    for await (const line of place.client.logs('shop', { lines: 3 })) seen.push(line.message)
    expect(seen).toEqual(['line 197', 'line 198', 'line 199'])
    const response = await place.call('GET', '/v1/functions/shop/logs')
    expect(response.headers.get('content-type')).toBe('application/x-ndjson')
    expect((await response.text()).trimEnd().split('\n')).toHaveLength(CONTROL_LIMITS.logLinesPerReadDefault)
  })

  test('of a function that wrote nothing is an empty answer', async () => {
    expect(await (await place.call('GET', '/v1/functions/shop/logs')).text()).toBe('')
  })

  test.each(['-1', 'x', '', '1e3', '10001', '99999999999'])('lines=%s is refused', async (lines) => {
    expect((await place.call('GET', `/v1/functions/shop/logs?lines=${lines}`)).status).toBe(400)
  })

  test('follow takes 1 and 0 only', async () => {
    expect((await place.call('GET', '/v1/functions/shop/logs?follow=0')).status).toBe(200)
    expect((await place.call('GET', '/v1/functions/shop/logs?follow=yes')).status).toBe(400)
    expect(place.followers.size).toBe(0)
  })
})

describe('following logs', () => {
  test('gives what was there and what comes, and lets go when the reader leaves the loop', async () => {
    place.node.past = [logLine('before')]
    const seen: string[] = []
    for await (const line of place.client.logs('shop', { lines: 10, follow: true })) {
      seen.push(line.message)
      if (line.message === 'three') break
      write(seen.length === 1 ? 'two' : 'three')
    }
    expect(seen).toEqual(['before', 'two', 'three'])
    await expect.poll(() => place.followers.size).toBe(0)
  })

  test('ends quietly when the signal aborts', async () => {
    const stop = new AbortController()
    const seen: string[] = []
    const reading = (async () => {
      for await (const line of place.client.logs('shop', { follow: true, signal: stop.signal })) {
        seen.push(line.message)
        stop.abort()
      }
    })()
    await expect.poll(() => place.followers.size).toBe(1)
    write('one')
    await reading
    expect(seen).toEqual(['one'])
    await expect.poll(() => place.followers.size).toBe(0)
  })

  test('a quiet stream carries empty lines, and a reader that goes during the quiet is noticed', async () => {
    const response = await place.call('GET', '/v1/functions/shop/logs?follow=1')
    const reader = response.body!.getReader()
    expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe('\n')
    expect(place.followers.size).toBe(1)
    await reader.cancel()
    await expect.poll(() => place.followers.size).toBe(0)
  })

  test('a HEAD request follows nothing', async () => {
    expect((await place.call('HEAD', '/v1/functions/shop/logs?follow=1')).status).toBe(200)
    expect(place.followers.size).toBe(0)
  })

  test('a node that stops ends the stream as unreachable', async () => {
    const reading = (async () => {
      for await (const line of place.client.logs('shop', { follow: true })) {
        expect(line.message).toBe('one')
        await place.close()
      }
    })()
    await expect.poll(() => place.followers.size).toBe(1)
    write('one')
    await expect(reading).rejects.toMatchObject({ code: 'node_unreachable' })
    place = await openControlPlace()
  })

  test('a line written between listening and reading is sent once', async () => {
    const listeners = new Set<(line: LogLine) => void>()
    const both = logLine('in both')
    const stream = await openLogStream(
      {
        async read() {
          for (const listener of listeners) listener(both)
          for (const listener of listeners) listener(logLine('after the read'))
          return [logLine('past'), both]
        },
        follow(_name, onLine) {
          listeners.add(onLine)
          return () => listeners.delete(onLine)
        },
      },
      'shop',
      { lines: 10, follow: true, heartbeatMs: 60_000 },
    )
    const reader = stream.getReader()
    const { value } = await reader.read()
    const lines = Buffer.from(value!).toString().trimEnd().split('\n')
    expect(lines.map((line) => (JSON.parse(line) as LogLine).message)).toEqual([
      'past',
      'in both',
      'after the read',
    ])
    await reader.cancel()
    expect(listeners.size).toBe(0)
  })

  test('a log that cannot be read is an answer, and nothing is followed', async () => {
    place.ports.logs.read = async () => {
      throw new Error('disk')
    }
    expect((await place.call('GET', '/v1/functions/shop/logs?follow=1')).status).toBe(500)
    expect(place.followers.size).toBe(0)
  })

  test('a reader that is too slow loses the oldest lines, is told how many, and memory stays bounded', async () => {
    const listeners = new Set<(line: LogLine) => void>()
    const stream = await openLogStream(
      {
        read: async () => [],
        follow(_name, onLine) {
          listeners.add(onLine)
          return () => listeners.delete(onLine)
        },
      },
      'shop',
      { lines: 0, follow: true, heartbeatMs: 60_000 },
    )
    const count = 100_000
    const padding = 'x'.repeat(200)
    for (let index = 0; index < count; index++) {
      for (const listener of listeners) listener(logLine(`${index} ${padding}`))
    }
    const reader = stream.getReader()
    const { value } = await reader.read()
    expect(value!.byteLength).toBeLessThan(CONTROL_LIMITS.logBytesBufferedMax * 1.1)
    const messages = Buffer.from(value!)
      .toString()
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as LogLine).message)
    const [marker = '', firstKept = ''] = messages
    expect(marker).toMatch(/^\d+ lines were dropped here/)
    expect(Number.parseInt(marker, 10)).toBe(Number.parseInt(firstKept, 10))
    expect(messages).toHaveLength(count - Number.parseInt(marker, 10) + 1)
    expect(messages.at(-1)).toMatch(new RegExp(`^${count - 1} `))
    await reader.cancel()
  })
})
