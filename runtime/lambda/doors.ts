/** Both doors of one environment. */
import type { Server } from 'node:net'
import { LAMBDA_LIMITS } from '../../sdk/model/limits.ts'
import { DoorServer } from './door-server.ts'
import type { Environment } from './environment.ts'
import { serveCall } from './http-door.ts'
import { listenInNamespace } from './namespace-door.ts'
import { serveRuntime } from './runtime-api.ts'
import { listenAt, type SocketFile } from './socket-file.ts'
import type { LambdaEnvironment } from './wire.ts'

export class Doors {
  readonly #place: LambdaEnvironment
  readonly #calls: DoorServer
  readonly #runtime: DoorServer
  readonly #files: SocketFile[] = []
  #callFile: SocketFile | undefined
  #namespaceServer: Server | undefined
  #isRetired = false
  #isClosed = false

  constructor(place: LambdaEnvironment, environment: Environment) {
    this.#place = place
    this.#calls = new DoorServer({
      headBytesMax: LAMBDA_LIMITS.callHeadBytesMax,
      onRequest: (request, response) => serveCall(environment, request, response),
    })
    this.#runtime = new DoorServer({
      headBytesMax: LAMBDA_LIMITS.runtimeHeadBytesMax,
      connectionsMax: LAMBDA_LIMITS.runtimeConnectionsMax,
      onRequest: (request, response) => serveRuntime(environment, request, response),
    })
  }

  /** Rejects where one of them cannot be opened; then neither is. */
  async open(): Promise<void> {
    const { runtimeApi, httpSocket } = this.#place
    try {
      if (runtimeApi.type === 'namespace') await this.#openNamespace(runtimeApi.pid)
      // Its user in the container is not ours.
      else this.#files.push(await listenAt(this.#runtime.server, runtimeApi.path, 0o666))
      this.#callFile = await listenAt(this.#calls.server, httpSocket, 0o600)
      this.#files.push(this.#callFile)
    } catch (error) {
      this.close()
      throw error
    }
    if (this.#isClosed) this.close()
    else if (this.#isRetired) this.retire()
  }

  /** The router is to find nobody there, so that it takes another instance; what it has sent is answered. */
  retire(): void {
    this.#isRetired = true
    this.#callFile?.remove()
    this.#calls.retire()
  }

  close(): void {
    this.#isClosed = true
    for (const file of this.#files) file.remove()
    this.#calls.close()
    this.#runtime.close()
    this.#namespaceServer?.close()
  }

  async #openNamespace(pid: number): Promise<void> {
    const server = await listenInNamespace(pid)
    server.on('connection', (socket) => this.#runtime.take(socket))
    this.#namespaceServer = server
  }
}
