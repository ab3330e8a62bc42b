/** The Runtime API of AWS Lambda, 2018-06-01, and isola's `claim`, by HTTP on a unix socket. */
import { Agent, request } from 'node:http'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'

const RUNTIME = '/2018-06-01/runtime'
/** Between attempts to reach a process that is away: doubled each time, from the first to the last. */
const RETRY_MS = { first: 10, last: 500 }

export function connectRuntimeApi(socketPath) {
  // One connection is kept for all but streams, so an event costs no connect.
  const agent = new Agent({ keepAlive: true, keepAliveMsecs: 60_000, maxFreeSockets: 1 })
  const options = { socketPath, agent, headers: {} }

  return {
    /** A first answer takes much longer than a second: this is the first, before anybody waits. */
    async warm() {
      const outgoing = request({ ...options, path: '/2018-06-01/ping' })
      outgoing.end()
      await answerOf(outgoing).catch(() => undefined)
    },
    /** The function of this blank: waits for it as long as it takes. */
    async claim() {
      return JSON.parse((await poll('/isola/claim')).body.toString())
    },
    /** The next event: `{ headers, body }`. */
    next: () => poll(`${RUNTIME}/invocation/next`),
    respond: (id, body) => post(`${RUNTIME}/invocation/${id}/response`, body),
    fail: (id, error) => post(`${RUNTIME}/invocation/${id}/error`, JSON.stringify(error), error.errorType),
    failInit: (error) => post(`${RUNTIME}/init/error`, JSON.stringify(error), error.errorType),
    /** An open request whose body is the response. `done` resolves when it was taken. */
    openResponse(id, contentType) {
      const outgoing = request({
        socketPath,
        method: 'POST',
        path: `${RUNTIME}/invocation/${id}/response`,
        headers: {
          'Content-Type': contentType,
          'Lambda-Runtime-Function-Response-Mode': 'streaming',
          'Transfer-Encoding': 'chunked',
          Trailer: 'Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body',
        },
      })
      const done = answerOf(outgoing)
      // Whoever writes learns of it by the stream.
      done.catch(() => undefined)
      return { outgoing, done }
    },
  }

  /** Asks until there is an answer. The process may not know this runtime yet when it has just come back. */
  async function poll(path) {
    for (let delayMs = RETRY_MS.first; ; delayMs = Math.min(delayMs * 2, RETRY_MS.last)) {
      try {
        const outgoing = request({ ...options, path })
        outgoing.end()
        const answer = await answerOf(outgoing)
        if (answer.status === 200) return answer
        // This environment is over: it timed out, or nobody wants it any more.
        if (answer.status === 403) process.exit(1)
      } catch (error) {
        if (error.code === undefined) throw error
      }
      await sleep(delayMs)
    }
  }

  /** False where nobody took it: the process is away, and with it who asked. */
  async function post(path, body, errorType) {
    const bytes = Buffer.from(body)
    for (let attempt = 1; ; attempt += 1) {
      const outgoing = request({
        ...options,
        method: 'POST',
        path,
        headers: {
          'Content-Type': 'application/json',
          'Content-Length': bytes.length,
          ...(errorType !== undefined && { 'Lambda-Runtime-Function-Error-Type': errorType }),
        },
      })
      outgoing.end(bytes)
      try {
        return (await answerOf(outgoing)).status === 202
      } catch {
        // A kept connection may have been closed meanwhile. What was taken twice is refused the second time.
        if (!outgoing.reusedSocket || attempt > 1) return false
      }
    }
  }
}

function answerOf(outgoing) {
  return new Promise((resolve, reject) => {
    outgoing.on('error', reject)
    outgoing.on('response', (incoming) => {
      const chunks = []
      incoming.on('data', (chunk) => chunks.push(chunk))
      incoming.on('end', () =>
        resolve({
          status: incoming.statusCode,
          headers: incoming.headers,
          body: chunks.length === 1 ? chunks[0] : Buffer.concat(chunks),
        }),
      )
      incoming.on('error', reject)
    })
  })
}
