import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer, request as httpRequest, type IncomingMessage, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import { connectToChannel } from '../../runtime/pool/channel.ts'
import { errorOf, listenLocally, LOOPBACK_RULES, send } from '../harness/egress.ts'
import {
  Agent,
  EGRESS_MAIN,
  startProcess,
  startReady,
  type EgressProcess,
} from '../harness/egress-process.ts'

const FIXTURES = fileURLToPath(new URL('../fixtures/egress/', import.meta.url))
const UID = process.getuid?.() ?? 0

const cleanups: (() => unknown)[] = []
const onCleanup = (cleanup: () => unknown): void => void cleanups.push(cleanup)
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

function startServer(listener: (request: IncomingMessage) => string): Promise<number> {
  const server = createServer((request, response) => {
    request.resume()
    response.end(listener(request))
  })
  return serve(server)
}

function serve(server: Server): Promise<number> {
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return listenLocally(server)
}

describe('the egress process', () => {
  test('goes on without its agent, takes the next one, and closes what that one does not name', async () => {
    const port = await startServer(() => 'hello')
    const { agent, attach, socketPath, directory, child } = await startReady(onCleanup)
    const target = `http://127.0.0.1:${port}/`
    const second = join(directory, 'i2.sock')
    agent.channel.send({ type: 'listen', id: 'i2', socketPath: second, uid: UID })
    await agent.next('listening')
    agent.channel.close()
    expect((await send(socketPath, target)).status).toBe(200)

    const next = await attach()
    const { ino } = statSync(socketPath)
    next.channel.send({
      type: 'sockets',
      sockets: [{ id: 'i1', socketPath, uid: UID, functionName: 'shop' }],
    })
    expect(await next.next('listening')).toEqual({ type: 'listening', id: 'i1' })
    expect([existsSync(second), statSync(socketPath).ino]).toEqual([false, ino])
    expect((await send(socketPath, target)).status).toBe(200)
    next.channel.send({ type: 'rules', rules: { ...LOOPBACK_RULES, allowedCidrs: [] } })
    // Refusals are logged to the agent that is there now.
    const logged = next.next('log')
    expect((await send(socketPath, 'http://10.0.0.1/')).status).toBe(403)
    expect((await logged).lines[0]).toMatchObject({ id: 'i1', functionName: 'shop' })
    expect(child.exitCode).toBeNull()
  })

  test('limits what one request may send by the reports of its agent, tells it the traffic, and does without', async () => {
    const port = await startServer(() => 'hello')
    const limits = { shop: { subrequests: 2, egress: 'public' as const } }
    const { agent, socketPath } = await startReady(onCleanup, { rules: { ...LOOPBACK_RULES, limits } })
    const target = `http://127.0.0.1:${port}/`
    const report = (started: number, inFlight: number) =>
      agent.channel.send({ type: 'load', instances: [{ id: 'i1', started, inFlight }] })
    report(1, 1)
    expect((await send(socketPath, target)).status).toBe(200)
    expect((await send(socketPath, target)).status).toBe(200)
    const beyond = send(socketPath, target)
    const reports = setInterval(() => report(1, 1), 20)
    onCleanup(() => clearInterval(reports))
    expect(errorOf(await beyond)).toMatchObject({ code: 'subrequest_limit_exceeded' })
    clearInterval(reports)
    report(1, 0)
    expect((await send(socketPath, target)).status).toBe(200)
    let traffic = await agent.next('traffic')
    const { epoch } = traffic
    while (traffic.functions[0]?.requests !== 4) traffic = await agent.next('traffic')
    expect(traffic).toMatchObject({ epoch, functions: [{ functionName: 'shop', refused: 1 }] })

    // Held until the proxy notices that the agent is gone, then let through, as all that come after it.
    const held = [1, 2, 3].map(() => send(socketPath, target))
    agent.channel.close()
    for (const answer of await Promise.all(held)) expect(answer.status).toBe(200)
    for (let round = 0; round < 5; round += 1) expect((await send(socketPath, target)).status).toBe(200)
  })

  test('makes sockets only their owner can open, and removes all on shutdown, exiting 0', async () => {
    const { agent, child, socketPath, controlPath, directory } = await startReady(onCleanup)
    expect(statSync(socketPath).mode & 0o777).toBe(0o600)
    if (UID === 0) {
      const owned = join(directory, 'owned.sock')
      agent.channel.send({ type: 'listen', id: 'i3', socketPath: owned, uid: 54_321 })
      await agent.next('listening')
      expect(statSync(owned)).toMatchObject({ uid: 54_321 })
      expect(statSync(owned).mode & 0o777).toBe(0o600)
    }
    const exited = once(child, 'exit')
    agent.channel.send({ type: 'shutdown' })
    expect(await exited).toEqual([0, null])
    expect([existsSync(socketPath), existsSync(controlPath)]).toEqual([false, false])
  })

  test('says which socket it cannot make, and goes on', async () => {
    const { agent, directory, stderr } = await startReady(onCleanup)
    const socketPath = join(directory, 'missing', 'x.sock')
    agent.channel.send({ type: 'listen', id: 'lost', socketPath, uid: UID })
    const { id, message } = await agent.next('listen-failed')
    expect(id).toBe('lost')
    expect(message).toContain(socketPath)
    expect(stderr()).toContain(socketPath)
    agent.channel.send({ type: 'listen', id: 'i2', socketPath: join(directory, 'i2.sock'), uid: UID })
    expect((await agent.next('listening')).id).toBe('i2')
  })

  test('makes a socket anew where its file is gone', async () => {
    const { agent, socketPath } = await startReady(onCleanup)
    rmSync(socketPath)
    agent.channel.send({
      type: 'sockets',
      sockets: [{ id: 'i1', socketPath, uid: UID, functionName: 'shop' }],
    })
    await agent.next('listening')
    expect((await send(socketPath, 'http://10.0.0.1/')).status).toBe(403)
  })

  test('ends itself when its control socket is replaced, and leaves the successor’s files alone', async () => {
    const first = await startReady(onCleanup)
    const successor = startProcess(onCleanup, { directory: first.directory })
    const agent = await connectSuccessor(successor)
    const { socketPath } = first
    agent.channel.send({
      type: 'sockets',
      sockets: [{ id: 'i1', socketPath, uid: UID, functionName: 'shop' }],
    })
    await agent.next('listening')
    expect(await once(first.child, 'exit')).toEqual([0, null])
    expect((await send(socketPath, 'http://10.0.0.1/')).status).toBe(403)
    await successor.attach()
  })

  test('stops on SIGTERM but not on Ctrl-C, which reaches the functions that still drain', async () => {
    const { child, socketPath } = await startReady(onCleanup)
    child.kill('SIGINT')
    child.kill('SIGHUP')
    expect((await send(socketPath, 'http://10.0.0.1/')).status).toBe(403)
    const exited = once(child, 'exit')
    child.kill('SIGTERM')
    expect(await exited).toEqual([0, null])
  })

  test('without --socket says how it is started', async () => {
    const child = spawn(process.execPath, [EGRESS_MAIN], { stdio: ['ignore', 'ignore', 'pipe'] })
    let stderr = ''
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    expect(await once(child, 'close')).toEqual([2, null])
    expect(stderr).toContain('--socket PATH')
  })

  test('verifies certificates: a trusted one passes, with the name that was asked for', async () => {
    const [key, cert] = ['key.pem', 'certificate.pem'].map((name) => readFileSync(join(FIXTURES, name)))
    const server = createHttpsServer({ key, cert }, (request, response) => {
      response.end(
        `${request.headers.host} ${(request.socket as { servername?: string | false }).servername}`,
      )
    })
    const port = await serve(server)
    const origin = `https://127.0.0.1:${port}`
    const origins = { shop: ['site.example', 'wrong.example'].map((pattern) => ({ pattern, origin })) }
    const { socketPath } = await startReady(onCleanup, {
      rules: { ...LOOPBACK_RULES, origins },
      environment: { NODE_EXTRA_CA_CERTS: join(FIXTURES, 'certificate.pem') },
    })
    const text = async (target: string) => (await send(socketPath, target)).body.toString()
    expect(await text(`https://localhost:${port}/`)).toBe(`localhost:${port} localhost`)
    expect(await text(`https://127.0.0.1:${port}/`)).toBe(`127.0.0.1:${port} false`)
    expect(await text('http://site.example/')).toBe('site.example site.example')
    const wrong = await send(socketPath, 'https://wrong.example/')
    expect(errorOf(wrong)).toMatchObject({ code: 'egress_failed' })
    expect(errorOf(wrong).message).toContain('wrong.example')
  })

  test('passes 100 MB up and down at flat memory', async () => {
    const total = 100 * 1024 * 1024
    const chunk = Buffer.alloc(64 * 1024)
    const server = createServer((request, response) => {
      let received = 0
      request.on('data', (part: Buffer) => (received += part.length))
      request.on('end', () => {
        if (request.method === 'POST') return void response.end(String(received))
        let left = total
        const more = (): void => {
          while (left > 0) {
            left -= chunk.length
            if (!response.write(chunk)) return
          }
          response.end()
        }
        response.on('drain', more)
        more()
        return undefined
      })
    })
    const port = await serve(server)
    const { socketPath, child } = await startReady(onCleanup)
    const path = `http://127.0.0.1:${port}/`
    const residentMib = (): number => {
      const [, pages] = readFileSync(`/proc/${child.pid}/statm`, 'utf8').split(' ').map(Number)
      return ((pages ?? 0) * 4_096) / 1024 / 1024
    }
    await send(socketPath, path)
    const beforeMib = residentMib()
    const upload = httpRequest({ socketPath, path, method: 'POST', setHost: false })
    const answered = once(upload, 'response')
    for (let sent = 0; sent < total; sent += chunk.length) {
      if (!upload.write(chunk)) await once(upload, 'drain')
    }
    upload.end()
    const [response] = (await answered) as [IncomingMessage]
    const [received] = (await once(response, 'data')) as [Buffer]
    expect(Number(received.toString())).toBe(total)
    expect((await send(socketPath, path)).body.length).toBe(total)
    expect(residentMib() - beforeMib).toBeLessThan(80)
  })

  test('survives raw garbage from an instance, without a word on stderr', async () => {
    const port = await startServer(() => 'still here')
    const { socketPath, child, stderr } = await startReady(onCleanup)
    const attack = (bytes: Buffer, ending: 'end' | 'destroy' | 'wait'): Promise<void> =>
      new Promise((resolve) => {
        const socket = connect(socketPath, () => {
          socket.write(bytes)
          if (ending === 'end') socket.end()
          if (ending === 'destroy') socket.destroy()
          if (ending === 'wait') setTimeout(() => socket.destroy(), 20)
        })
        socket.resume()
        socket.on('error', () => undefined)
        socket.on('close', () => resolve())
      })
    let seed = 42
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
      return (seed >>> 8) % below
    }
    const seeds = [
      `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nA: b\r\n\r\n`,
      `POST http://127.0.0.1:${port}/ HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789`,
      `POST http://127.0.0.1:${port}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
      `CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n`,
      `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n`,
      `GET http://127.0.0.1:1/ HTTP/1.1\r\n\r\nGET http://127.0.0.1:${port}/ HTTP/1.1\r\n\r\n`,
      `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nX: ${'y'.repeat(100_000)}\r\n\r\n`,
      `HEAD http://127.0.0.1:${port}/ HTTP/1.1\r\nConnection: X, \u0000, Host\r\nHost: a\r\nHost: b\r\n\r\n`,
    ].map((text) => Buffer.from(text, 'latin1'))
    const endings = ['end', 'destroy', 'wait'] as const
    for (let round = 0; round < 60; round += 1) {
      const attacks = seeds.map((bytes, index) => {
        const mutated = Buffer.from(bytes.subarray(0, random(4) === 0 ? random(bytes.length) : bytes.length))
        for (let flips = random(4); flips > 0 && mutated.length > 0; flips -= 1) {
          mutated[random(mutated.length)] = random(256)
        }
        const noise = Buffer.from(Array.from({ length: 64 }, () => random(256)))
        return attack(
          random(6) === 0 ? noise : mutated,
          endings[(round + index) % 3] as (typeof endings)[number],
        )
      })
      await Promise.all(attacks)
    }
    expect((await send(socketPath, `http://127.0.0.1:${port}/`)).body.toString()).toBe('still here')
    expect([child.exitCode, stderr()]).toEqual([null, ''])
  })
})

/** A successor binds while the old control socket still answers, so its own `hello` is what to wait for. */
async function connectSuccessor(successor: EgressProcess): Promise<Agent> {
  for (;;) {
    const agent = new Agent(await connectToChannel(successor.controlPath, 20_000))
    const { pid } = await agent.next('hello')
    if (pid === successor.child.pid) return agent
    agent.channel.close()
  }
}
