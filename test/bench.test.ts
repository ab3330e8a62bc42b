import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'
import { runOpenLoop } from './bench/open-loop.ts'
import { formatMedian, quantile } from './bench/statistics.ts'

function bench(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, ['test/bench/main.ts', ...argv], (_error, stdout, stderr) => {
      resolve({ code: child.exitCode ?? -1, stdout, stderr })
    })
  })
}

describe('npm run bench', () => {
  test('without a name it lists the benches', async () => {
    const { code, stdout } = await bench()
    expect(code).toBe(0)
    for (const name of ['router', 'cold-start', 'memory', 'deploy', 'isolate-memory', 'table']) {
      expect(stdout).toMatch(new RegExp(`^  ${name} +\\S`, 'm'))
    }
  })
  test('an unknown name fails and lists them too', async () => {
    const { code, stdout, stderr } = await bench('constructor')
    expect(code).toBe(2)
    expect(stderr).toContain('no bench "constructor"')
    expect(stdout).toContain('cold-start')
  })
  test('--json is one document with the machine and what was kept', async () => {
    const { code, stdout } = await bench('table', '--quick', '--json')
    expect(code).toBe(0)
    const report = JSON.parse(stdout) as { name: string; machine: string[]; marks: unknown[]; kept: boolean }
    expect(report).toMatchObject({ name: 'table', quick: true })
    expect(report.machine.join('\n')).toMatch(/workerd \d{4}-/)
    expect(report.marks.length).toBeGreaterThan(0)
    expect(typeof report.kept).toBe('boolean')
  })
})

describe('the open loop', () => {
  test('a stall of the server is seen by all requests that were due meanwhile', async () => {
    const stallMs = 300
    let stalledUntilMs = 0
    const server = createServer((socket) => {
      socket.on('data', () => {
        if (stalledUntilMs === 0) stalledUntilMs = performance.now() + stallMs
        const answer = (): boolean => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
        const leftMs = stalledUntilMs - performance.now()
        if (leftMs > 0) setTimeout(answer, leftMs)
        else answer()
      })
      socket.on('error', () => socket.destroy())
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    try {
      const result = await runOpenLoop({
        where: { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
        host: 'a.example',
        path: '/',
        requestsPerSecond: 100,
        seconds: 0.4,
        connections: 1,
      })
      expect(result).toMatchObject({ requests: 40, failures: 0 })
      // 30 of 40 were due during the stall, spread over it: a closed loop on one connection would have seen one slow.
      expect(result.p50Us).toBeGreaterThan(50_000)
      expect(result.maxUs).toBeGreaterThan(250_000)
    } finally {
      server.close()
    }
  })
  test('wrong answers and broken connections are failures with a sample', async () => {
    let count = 0
    const server = createServer((socket) => {
      socket.on('data', () => {
        if (count++ % 2 === 0) socket.end('HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n')
        else socket.destroy()
      })
      socket.on('error', () => socket.destroy())
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    try {
      const { port } = server.address() as AddressInfo
      const result = await runOpenLoop({
        where: { host: '127.0.0.1', port },
        host: 'a.example',
        path: '/',
        requestsPerSecond: 100,
        seconds: 0.1,
        connections: 1,
      })
      expect(result).toMatchObject({ requests: 10, failures: 10 })
      expect(result.failureSamples.join('\n')).toContain('503')
    } finally {
      server.close()
    }
  })
})

test('medians are shown with how far the repetitions lie apart', () => {
  expect(formatMedian([30, 10, 20])).toBe('20 (10–30)')
  expect(formatMedian([1_234.5])).toBe('1,235')
  expect(formatMedian([0.123, 12.345])).toBe('6.23 (0.12–12.3)')
  expect(quantile([3, 1, 2], 0.5)).toBe(2)
  expect(quantile([], 0.5)).toBeNaN()
})
