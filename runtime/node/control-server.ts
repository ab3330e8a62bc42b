import { serve } from '@hono/node-server'
import { IsolaError } from '../../sdk/model/errors.ts'
import { urlHost, type Address } from './node-address.ts'

interface App {
  fetch(request: Request): Response | Promise<Response>
}

export interface ControlServer {
  readonly url: string
  serve(app: App): void
  close(): Promise<void>
}

/** Listens at once and answers 503 until there is an app to serve. */
export async function listenForControl(address: Address): Promise<ControlServer> {
  let app: App = {
    fetch: () =>
      Response.json(
        { error: { code: 'node_unreachable', message: 'the node is starting: try again', requestId: '' } },
        { status: 503, headers: { 'retry-after': '1' } },
      ),
  }
  return new Promise((resolve, reject) => {
    const server = serve(
      {
        fetch: (request) => app.fetch(request),
        hostname: address.host,
        port: address.port,
        // An image on a slow line takes as long as it takes; each operation bounds its own body.
        serverOptions: { requestTimeout: 0 },
      },
      ({ port }) => {
        resolve({
          url: `http://${urlHost(address.host)}:${port}`,
          serve: (next) => {
            app = next
          },
          close: () =>
            new Promise((done) => {
              server.close(() => done())
              if ('closeAllConnections' in server) server.closeAllConnections()
            }),
        })
      },
    )
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
