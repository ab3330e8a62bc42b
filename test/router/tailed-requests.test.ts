import { describe, expect, test } from 'vitest'
import { RequestLog, type RequestLogBatch, type RequestRecord } from '../../router/request-log.ts'
import { TAIL_LIMITS } from '../../sdk/model/limits.ts'
import { startRawInstance } from '../harness/fake-instance.ts'
import { startTestRouter } from '../harness/router-process.ts'

const ANSWER = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'

describe('a request of a function that is tailed', () => {
  test('is told with its head, and the instance is asked for more; others and later ones are not', async () => {
    await using router = await startTestRouter()
    await router.apply()
    await using instance = await startRawInstance(router.socketPath('i1'), (socket) => socket.write(ANSWER))
    router.up('i1')
    const ask = async (path: string): Promise<void> => {
      const { status } = await router.ask(
        `GET ${path} HTTP/1.1\r\nhost: ${router.host}\r\nx-own: kept\r\nisola-tail: forged\r\nconnection: close\r\n\r\n`,
      )
      expect(status).toBe(200)
    }
    const told = async (
      path: string,
    ): Promise<{ head: string; functionMs?: number | undefined } | undefined> => {
      const { lines, tailed = [] } = await router.agent.heard('log', (message) =>
        message.lines.some(({ request }) => request?.path === path),
      )
      return tailed.find(({ line }) => lines[line]?.request?.path === path)
    }
    await ask('/before')
    expect(await told('/before')).toBeUndefined()
    router.agent.send({ type: 'tails', functionNames: ['hello'] })
    // Messages are taken in order.
    await router.apply()
    await ask('/during?q=1')
    const request = await told('/during')
    expect(request?.head).toMatch(/^GET \/during\?q=1 HTTP\/1\.1\r\n/)
    expect(request?.head).toContain('\r\nx-own: kept\r\n')
    expect(request?.head).not.toContain('forged')
    expect(request?.functionMs).toBeGreaterThanOrEqual(0)
    router.agent.send({ type: 'tails', functionNames: ['other'] })
    await router.apply()
    await ask('/after')
    expect(await told('/after')).toBeUndefined()
    const asked = instance
      .received()
      .split('GET ')
      .slice(1)
      .map((text) => /isola-tail: \w+/.exec(text)?.[0])
    expect(asked).toEqual([undefined, 'isola-tail: lines', undefined])
  })

  test('is one of so many between two reports; the rest is counted, and none is told twice', () => {
    const log = new RequestLog({ linesMax: 1_000, pathCharsMax: 100 })
    const record: RequestRecord = {
      functionName: 'hello',
      versionId: 'v',
      instanceId: 'i',
      requestId: 'r',
      endedAtMs: 0,
      method: 'GET',
      host: 'hello',
      target: '/',
      status: 200,
      totalMs: 1,
      queueMs: 0,
      functionMs: 1,
      cold: false,
      requestBytes: 0,
      responseBytes: 0,
      error: undefined,
      clientAborted: false,
    }
    log.add(record, undefined)
    for (let index = 0; index < TAIL_LIMITS.headsPerReportMax + 3; index++) log.add(record, `head ${index}`)
    const batches: RequestLogBatch[] = []
    log.flush(() => false)
    log.flush((batch) => batches.push(batch) > 0)
    log.add(record, undefined)
    log.flush((batch) => batches.push(batch) > 0)
    expect(batches[0]?.tailed).toHaveLength(TAIL_LIMITS.headsPerReportMax)
    expect(batches[0]?.tailed?.[0]).toEqual({ line: 1, head: 'head 0', functionMs: 1 })
    expect(batches[0]?.untold).toBe(3)
    expect(batches[1]).not.toHaveProperty('tailed')
  })
})
