/**
 * A sandbox is a network namespace made ahead, held by a small container of its own; making it is most of what a
 * container's start costs. In it a forwarder leads from a unix socket on the node to a port inside, so a function that
 * listens on 127.0.0.1 needs no network to be called.
 */
export interface Sandbox {
  /** Of the sandbox; its container's name has it. */
  readonly id: string
  readonly containerId: string
  /** On the host, of the process that holds the namespace. */
  readonly pid: number
  /** Host path of the unix socket that leads to `port` inside. */
  readonly httpSocket: string
  readonly egress: boolean
  readonly port: number
  /** What a container that joins it has as `HostConfig.NetworkMode`. */
  readonly networkMode: string
  /** Removes it, container and files. Never rejects. */
  remove(): Promise<void>
}

export interface SandboxMaker {
  /** Throws `engine_unavailable`, `internal`. */
  make(options: { readonly id: string; readonly egress: boolean; readonly port: number }): Promise<Sandbox>
  /** One that an earlier agent left; undefined where it does not run any more. */
  adopt(id: string): Promise<Sandbox | undefined>
  /** Resolves when something listens on its port inside; before that a request would be refused. */
  whenListening(sandbox: Sandbox, signal: AbortSignal): Promise<void>
}
