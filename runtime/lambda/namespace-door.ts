import { spawn } from 'node:child_process'
import type { Server } from 'node:net'
import { fileURLToPath } from 'node:url'
import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'

const LISTENER = fileURLToPath(new URL('./namespace-listener.ts', import.meta.url))
const ERROR_TEXT_MAX = 1_000

/** A server at 127.0.0.1:9001 inside the network namespace of the process. Rejects with nsenter's words. */
export function listenInNamespace(pid: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const target = ['-t', String(pid), '-n', process.execPath, LISTENER, String(LAMBDA_LIMITS.addressWaitMs)]
    const child = spawn('nsenter', target, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    let errorText = ''
    child.stderr?.on('data', (text: Buffer) => {
      errorText = `${errorText}${text.toString()}`.slice(0, ERROR_TEXT_MAX)
    })
    const fail = (why: string): void => {
      clearTimeout(timer)
      child.kill('SIGKILL')
      reject(
        new Error(`127.0.0.1:9001 in the network namespace of process ${pid} could not be opened: ${why}`),
      )
    }
    const timer = setTimeout(
      () => fail(`no answer within ${LAMBDA_LIMITS.namespaceTimeoutMs} ms`),
      LAMBDA_LIMITS.namespaceTimeoutMs,
    )
    child.on('message', (_message, handle) => {
      clearTimeout(timer)
      if (handle === undefined) fail('the helper sent no socket')
      else resolve(handle as Server)
    })
    child.on('error', (error: NodeJS.ErrnoException) =>
      fail(error.code === 'ENOENT' ? 'there is no nsenter: install util-linux' : error.message),
    )
    child.on('close', (code, signal) =>
      fail(errorText.trim() || `nsenter ended with ${signal ?? `code ${code}`}`),
    )
  })
}
