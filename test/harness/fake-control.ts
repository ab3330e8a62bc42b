/** A control API that says what a test wants and remembers what it was sent: for what a client does with an answer. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { type CommandOutcome, runIsola } from './node.ts'

export interface ControlRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
  json(): unknown
}

export type Answer = (request: ControlRequest, response: ServerResponse) => void

export interface FakeControl {
  readonly url: string
  readonly requests: readonly ControlRequest[]
  /** Of this method and path, e.g. `POST /v1/images/build`. */
  sent(what: string): ControlRequest
  /** The CLI, pointed at it. */
  isola(words: readonly string[], options?: Parameters<typeof runIsola>[1]): Promise<CommandOutcome>
  [Symbol.asyncDispose](): Promise<void>
}

const VERSION_ID = 'a'.repeat(32)

/** Blobs are always missing, deploys always work; `answers` are by method and path without query. */
export async function startFakeControl(answers: Readonly<Record<string, Answer>> = {}): Promise<FakeControl> {
  const requests: ControlRequest[] = []
  const server = createServer((incoming, response) => {
    void (async () => {
      const chunks: Buffer[] = []
      for await (const chunk of incoming) chunks.push(chunk as Buffer)
      const body = Buffer.concat(chunks)
      const { method = '', url = '', headers } = incoming
      const json = (): unknown => JSON.parse(body.toString('utf8'))
      const request = { method, path: url, headers, body, json }
      requests.push(request)
      const answer = answers[`${method} ${url.split('?')[0]}`] ?? usual
      answer(request, response)
    })().catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    requests,
    sent(what) {
      const found = requests.find(({ method, path }) => `${method} ${path.split('?')[0]}` === what)
      if (found === undefined)
        throw new Error(`nobody sent ${what}, but ${requests.map((r) => r.path).join(', ')}`)
      return found
    },
    isola: (words, options = {}) =>
      runIsola(words, { ...options, env: { ISOLA_CONTROL_URL: url, ISOLA_TOKEN: 'token', ...options.env } }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** JSON lines, as images and logs are answered. */
export function jsonLines(...lines: readonly unknown[]): Answer {
  return (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    response.end(lines.map((line) => `${line === '' ? '' : JSON.stringify(line)}\n`).join(''))
  }
}

export function refusal(status: number, code: string, message: string): Answer {
  return (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ error: { code, message, requestId: 'r' } }))
  }
}

const usual: Answer = ({ method, path, json }, response) => {
  if (method === 'PUT') {
    response.writeHead(204).end()
    return
  }
  response.setHeader('content-type', 'application/json')
  if (path === '/v1/blobs/missing') {
    response.end(JSON.stringify({ missing: (json() as { digests: string[] }).digests }))
    return
  }
  const functionName = /^\/v1\/functions\/([^/]+)\/deploy$/.exec(path)?.[1]
  if (functionName === undefined) {
    refusal(
      404,
      'not_found',
      `the fake control API has no ${path}`,
    )({ method, path } as ControlRequest, response)
    return
  }
  const shares = [{ versionId: VERSION_ID, percent: 100 }]
  const deployment = { id: 'd', shares, createdAt: '2026-11-01T00:00:00.000Z', message: '' }
  const urls = [`http://${functionName}.localhost/`]
  response.end(JSON.stringify({ functionName, deployment, generation: 1, urls, liveMs: 5 }))
}
