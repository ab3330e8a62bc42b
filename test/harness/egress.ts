import { mkdtempSync, rmSync } from 'node:fs'
import { request as httpRequest, type IncomingHttpHeaders, type Server as HttpServer } from 'node:http'
import { connect, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EGRESS_LIMITS } from '../../sdk/model/limits.ts'
import type { EgressRules, EgressToAgent } from '../../runtime/pool/wire.ts'
import { EgressProxy } from '../../runtime/egress/egress-proxy.ts'
import type { EgressLimits } from '../../runtime/egress/egress-limits.ts'
import type { Lookup } from '../../runtime/egress/resolve.ts'

export const LOOPBACK_RULES: EgressRules = {
  allowedCidrs: ['127.0.0.0/8'],
  ownAddresses: [],
  origins: {},
  limits: {},
}

export interface EgressUnderTest {
  readonly proxy: EgressProxy
  readonly directory: string
  /** Of instance "i1", assigned to function "shop". */
  readonly socketPath: string
  readonly sent: readonly EgressToAgent[]
  readonly problems: readonly string[]
  close(): Promise<void>
}

/** Every name is on loopback, unless a test says otherwise. */
const everythingIsLocal: Lookup = () => Promise.resolve([{ address: '127.0.0.1', family: 4 }])

export async function startEgress(
  options: {
    rules?: Partial<EgressRules>
    limits?: Partial<EgressLimits>
    lookup?: Lookup
    /** Whether an agent is there, whose reports a test brings with `handle`. */
    hasAgent?: boolean
  } = {},
): Promise<EgressUnderTest> {
  const directory = temporaryDirectory()
  const socketPath = join(directory, 'egress.sock')
  const sent: EgressToAgent[] = []
  const problems: string[] = []
  const proxy = new EgressProxy({
    lookup: options.lookup ?? everythingIsLocal,
    send: (message) => void sent.push(message),
    innerDoorPath: join(directory, 'invoke.sock'),
    onProblem: (message) => void problems.push(message),
    limits: { ...EGRESS_LIMITS, ...options.limits },
  })
  if (options.hasAgent === true) await proxy.setAgent(true)
  await proxy.handle({ type: 'rules', rules: { ...LOOPBACK_RULES, ...options.rules } })
  await proxy.handle({ type: 'listen', id: 'i1', socketPath, uid: process.getuid?.() ?? 0 })
  await proxy.handle({ type: 'assign', id: 'i1', functionName: 'shop' })
  const close = async (): Promise<void> => {
    await proxy.close()
    rmSync(directory, { recursive: true, force: true })
  }
  return { proxy, directory, socketPath, sent, problems, close }
}

export function temporaryDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'isola-egress-'))
}

export async function listenLocally(server: Server | HttpServer): Promise<number> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

export interface EgressAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
}

/** A request as workerd sends it: absolute target, no `Host`. */
export function send(
  socketPath: string,
  target: string,
  options: { method?: string; headers?: Record<string, string>; body?: string | Buffer } = {},
): Promise<EgressAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(
      {
        socketPath,
        path: target,
        setHost: false,
        method: options.method ?? 'GET',
        headers: options.headers ?? {},
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const { statusCode: status = 0, headers, rawHeaders } = response
          resolve({ status, headers, rawHeaders, body: Buffer.concat(chunks) })
        })
      },
    )
    outgoing.on('error', reject)
    outgoing.end(options.body)
  })
}

export function errorOf(answer: { readonly body: Buffer }): { code: string; message: string } {
  return (JSON.parse(answer.body.toString()) as { error: { code: string; message: string } }).error
}

/** Writes raw bytes and returns all that comes back until the other side closes. */
export function sendRaw(socketPath: string, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    const socket = connect({ path: socketPath, allowHalfOpen: true }, () => socket.write(bytes))
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.on('end', () => socket.end())
    socket.on('error', () => socket.destroy())
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')))
  })
}
