import { afterEach, expect, test } from 'vitest'
import { TraceAssembly, type Traced } from '../../runtime/node/tail/trace-assembly.ts'
import { TAIL_LIMITS } from '../../sdk/model/limits.ts'

let assembly: TraceAssembly
afterEach(() => assembly.close())

test('lines of requests that never end are held to a bound, and the newest stay', async () => {
  const events: Traced[] = []
  let dropped = 0
  assembly = new TraceAssembly(
    {
      functionName: 'shop',
      scriptVersionOf: (versionId) => versionId,
      cpuMsOf: () => 0,
      pendingWork: async () => 0,
      onEvent: (traced) => events.push(traced),
      onDropped: (count) => (dropped += count),
    },
    [],
  )
  const lineBytes = 10_000
  const fitting = Math.floor(TAIL_LIMITS.pendingTextMax / lineBytes)
  const time = '2026-11-21T10:00:00.000Z'
  const base = { time, functionName: 'shop', versionId: 'v', instanceId: 'i' } as const
  for (let index = 0; index < fitting + 50; index++) {
    const message = `${index} `.padEnd(lineBytes, 'x')
    assembly.onLine({ ...base, source: 'console', level: 'log', requestId: `r${index}`, message })
  }
  expect(dropped).toBe(50)
  const told = { line: 0, head: 'GET / HTTP/1.1\r\nhost: shop\r\n', functionMs: 1 }
  for (const requestId of [`r${fitting + 49}`, 'r0']) {
    const line = { ...base, source: 'request', level: 'info', requestId, message: '' } as const
    assembly.onRequests([{ line, told }])
  }
  await expect.poll(() => events.map(({ event }) => event.logs.length)).toEqual([1, 0])
})
