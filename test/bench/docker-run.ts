/** The peer of a container's start: `docker run` of the same Node.js with the same answer, on a published port. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createServer, type AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import { firstAnswer } from './first-answer.ts'

const IMAGE = 'isola-runtime-nodejs24'

export const SERVER_SOURCE =
  "require('node:http').createServer((request, response) => response.end('hello')).listen(process.env.PORT ?? 8080, '0.0.0.0')"

/** From before the command to the first byte of the answer; asked every millisecond. */
export async function dockerRun(): Promise<number> {
  const port = await freePort()
  const name = `isola-bench-${process.pid}-${randomBytes(4).toString('hex')}`
  const beganMs = performance.now()
  const running = docker(
    'run',
    `--name=${name}`,
    `--publish=127.0.0.1:${port}:8080`,
    '--detach',
    '--rm',
    '--entrypoint=node',
    IMAGE,
    '--eval',
    SERVER_SOURCE,
  )
  try {
    const answered = whenAnswered(port)
    await Promise.race([running.then(() => answered), answered])
    return performance.now() - beganMs
  } finally {
    await running.catch(() => undefined)
    await docker('rm', '--force', name)
  }
}

async function whenAnswered(port: number): Promise<void> {
  const deadlineMs = performance.now() + 60_000
  while (performance.now() < deadlineMs) {
    // Before it listens nothing, or the engine's proxy, is there: both end without an answer.
    const answer = await firstAnswer({ host: '127.0.0.1', port }, 'localhost').catch(() => undefined)
    if (answer?.status === 200) return
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  throw new Error('docker run gave no answer in a minute')
}

async function docker(...words: readonly string[]): Promise<void> {
  await promisify(execFile)('docker', words)
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
