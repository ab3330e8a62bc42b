import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createTailDelivery, type TailDelivery } from '../../runtime/node/tail/tail-consumers.ts'
import type { TraceEvent } from '../../runtime/node/tail/trace-event.ts'
import { TAIL_LIMITS } from '../../sdk/model/limits.ts'

let directory: string
let server: Server
let delivery: TailDelivery
let bodies: string[]
let failures: string[]

beforeEach(async () => {
  bodies = []
  failures = []
  directory = mkdtempSync(join(tmpdir(), 'tail-consumers-'))
  const socketPath = join(directory, 'door.sock')
  server = createServer((request, response) => {
    void text(request).then((body) => {
      bodies.push(body)
      response.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  delivery = createTailDelivery({ socketPath, onFailure: (_, message) => failures.push(message) })
})
afterEach(() => {
  delivery.close()
  server.close()
  rmSync(directory, { recursive: true })
})

test('large events go in several calls, and what waits is bounded as text', async () => {
  const message = 'x'.repeat(TAIL_LIMITS.eventTextMax)
  const event = { scriptName: 'shop', logs: [{ message: [message] }] } as unknown as TraceEvent
  for (let added = 0; added < 100; added++) delivery.add('sink', event)
  const fitting = Math.floor(TAIL_LIMITS.consumerQueueTextMax / JSON.stringify(event).length)
  const arrived = (): number => bodies.flatMap((body) => JSON.parse(body) as unknown[]).length
  await expect.poll(arrived, { timeout: 10_000 }).toBe(fitting)
  for (const body of bodies) expect(body.length).toBeLessThan(TAIL_LIMITS.consumerBatchTextMax + 1_000)
  expect(failures).toEqual([expect.stringMatching(`^${100 - fitting} trace events were dropped`)])
})

test('small events go together, so many at most', async () => {
  const event = { scriptName: 'shop', logs: [] } as unknown as TraceEvent
  for (let added = 0; added < TAIL_LIMITS.consumerBatchEventsMax + 1; added++) delivery.add('sink', event)
  await expect.poll(() => bodies.length, { timeout: 10_000 }).toBe(2)
  expect((JSON.parse(bodies[0]!) as unknown[]).length).toBe(TAIL_LIMITS.consumerBatchEventsMax)
})
