import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { serve } from '@hono/node-server'
import { IsolaError } from '../../sdk/model/errors.ts'
import { urlHost, type Address } from './node-address.ts'

interface App {
  fetch(request: Request): Response | Promise<Response>
}

export interface ControlServer {
  readonly url: string
  serve(app: App): void
  /** Hands over WebSocket handshakes at and below a path; elsewhere they are served as the requests they also are. */
  upgradeBelow(path: string, takeOver: TakeOver): void
  close(): Promise<void>
}

export type TakeOver = (request: IncomingMessage, socket: Duplex, head: Buffer) => void

/** Listens at once and answers 503 until there is an app to serve. */
export async function listenForControl(address: Address): Promise<ControlServer> {
  let app: App = {
    fetch: () =>
      Response.json(
        { error: { code: 'node_unreachable', message: 'the node is starting: try again', requestId: '' } },
        { status: 503, headers: { 'retry-after': '1' } },
      ),
  }
  let upgrades: { readonly path: string; readonly takeOver: TakeOver } | undefined
  const isTaken = (request: IncomingMessage): boolean =>
    upgrades !== undefined &&
    request.headers.upgrade?.toLowerCase() === 'websocket' &&
    request.url?.startsWith(upgrades.path) === true
  return new Promise((resolve, reject) => {
    const server = serve(
      {
        fetch: (request) => app.fetch(request),
        hostname: address.host,
        port: address.port,
        // An image on a slow line takes as long as it takes; each operation bounds its own body.
        serverOptions: { requestTimeout: 0, shouldUpgradeCallback: isTaken },
      },
      ({ port }) => {
        resolve({
          url: `http://${urlHost(address.host)}:${port}`,
          serve: (next) => {
            app = next
          },
          upgradeBelow: (path, takeOver) => {
            upgrades = { path, takeOver }
          },
          close: () =>
            new Promise((done) => {
              server.close(() => done())
              if ('closeAllConnections' in server) server.closeAllConnections()
            }),
        })
      },
    )
    server.on('upgrade', (request, socket, head) => upgrades?.takeOver(request, socket, head))
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new IsolaError(
          'address_in_use',
          `the control API cannot listen on ${address.host}:${address.port}: ${error.message}. Choose another with --control`,
          { cause: error },
        ),
      ),
    )
  })
}
