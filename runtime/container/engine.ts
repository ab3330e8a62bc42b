/**
 * The container engine as isola uses it: Docker's HTTP API (1.41 and later) on a unix socket. Every call throws
 * `engine_unavailable` where the engine does not answer; what else it throws stands with the call.
 */
export interface Engine {
  readonly socketPath: string
  /** Asks the engine itself, every time. */
  info(): Promise<EngineInfo>

  /** Throws `conflict` where the name is taken and `image_not_found`. Returns the container's id. */
  createContainer(name: string, spec: ContainerSpec): Promise<string>
  /** Throws `start_failed` with the engine's words where the image's command cannot be run. */
  startContainer(id: string): Promise<void>
  /** False where it does not run. */
  killContainer(id: string, signal: 'SIGTERM' | 'SIGKILL'): Promise<boolean>
  /** By force, with its anonymous volumes. A container that is gone is well removed. */
  removeContainer(id: string): Promise<void>
  inspectContainer(id: string): Promise<ContainerInspection | undefined>
  /** With all of the labels, running or not. */
  listContainers(labels: Readonly<Record<string, string>>): Promise<readonly ContainerSummary[]>
  /** Of containers with all of the labels, from `sinceS` (unix seconds, fractions allowed) on. Reconnects for ever. */
  watchContainers(options: WatchOptions): { stop(): void }
  /** Output of one container, line by line, from `sinceS` on; ends with it. */
  readOutput(id: string, options: OutputOptions): { stop(): void; readonly ended: Promise<void> }

  /** Returns its id. One of that name that is there already is taken. */
  ensureNetwork(name: string, spec: NetworkSpec): Promise<string>
  removeNetwork(name: string): Promise<void>
  listNetworks(labels: Readonly<Record<string, string>>): Promise<readonly NetworkSummary[]>

  inspectImage(reference: string): Promise<ImageInspection | undefined>
  listImages(labels: Readonly<Record<string, string>>): Promise<readonly ImageInspection[]>
  /** Those that `pattern` names: a repository, or `repository:tag`; `*` stands for anything but `/`. */
  listImagesNamed(pattern: string): Promise<readonly ImageInspection[]>
  /** A tar of a root file system becomes an image. Returns its id. */
  importImage(options: {
    readonly tar: AsyncIterable<Uint8Array>
    readonly reference: string
    /** Dockerfile instructions, e.g. `ENV A=b`, `LABEL k=v`. */
    readonly changes: readonly string[]
  }): Promise<string>
  /** Throws `build_failed` with the builder's words. Returns the image's id. */
  buildImage(options: BuildOptions): Promise<string>
  /** Throws `image_unusable`. Returns the id of the one image in it. */
  loadImage(tar: AsyncIterable<Uint8Array>, onText: (text: string) => void): Promise<string>
  /** Throws `image_not_found` and `image_unusable` with the registry's words. Returns its id. */
  pullImage(options: PullOptions): Promise<string>
  tagImage(id: string, reference: string): Promise<void>
  /** False where something uses it. One that is gone is well removed. */
  removeImage(reference: string): Promise<boolean>
  /** Build layers of isola's beyond the bound, oldest first. Returns bytes freed. */
  pruneBuilds(options: { readonly keepBytes: number }): Promise<number>
}

export interface EngineInfo {
  readonly version: string
  readonly apiVersion: string
  readonly storageDriver: string
  readonly cgroupDriver: 'cgroupfs' | 'systemd' | 'none'
  readonly cgroupVersion: 1 | 2
  /** As images name it: `amd64`, `arm64`. */
  readonly architecture: string
  readonly rootDirectory: string
}

/** The body of Docker's `POST /containers/create`, as far as isola uses it. */
export interface ContainerSpec {
  readonly Image: string
  readonly Entrypoint?: readonly string[]
  readonly Cmd?: readonly string[]
  readonly Env?: readonly string[]
  readonly WorkingDir?: string
  readonly User?: string
  readonly Labels: Readonly<Record<string, string>>
  readonly StopSignal?: string
  /** Instead of the image's own; `NONE` for none. */
  readonly Healthcheck?: { readonly Test: readonly string[] }
  readonly HostConfig: Readonly<Record<string, unknown>>
}

export interface ContainerInspection {
  readonly id: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly status: 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead'
  /** On the host; 0 where it does not run. */
  readonly pid: number
  readonly exitCode: number
  readonly outOfMemory: boolean
  /** The engine's own words where it could not be started. */
  readonly error: string
  readonly startedAtMs: number
  readonly imageId: string
  readonly cgroupParent: string
}

export interface ContainerSummary {
  readonly id: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly running: boolean
}

export interface ContainerEvent {
  readonly action: 'start' | 'die' | 'oom' | 'destroy'
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
  readonly exitCode?: number
  readonly atMs: number
}

export interface WatchOptions {
  readonly labels: Readonly<Record<string, string>>
  onEvent(event: ContainerEvent): void
  /** Connected again: events that came meanwhile follow. */
  onConnect(): void
  onDisconnect(message: string): void
}

export interface OutputOptions {
  readonly sinceMs: number
  onLine(line: { readonly stream: 'stdout' | 'stderr'; readonly text: string; readonly atMs: number }): void
}

export interface NetworkSpec {
  readonly internal: boolean
  readonly bridgeName: string
  readonly labels: Readonly<Record<string, string>>
  /** Docker's driver options, e.g. `com.docker.network.bridge.enable_icc`. */
  readonly options: Readonly<Record<string, string>>
}

export interface NetworkSummary {
  readonly id: string
  readonly name: string
}

export interface ImageInspection {
  readonly id: string
  readonly references: readonly string[]
  readonly sizeBytes: number
  readonly architecture: string
  readonly createdAtMs: number
  /** When it last got a name here; absent where it never had one. */
  readonly taggedAtMs?: number
  readonly labels: Readonly<Record<string, string>>
  readonly entryPoint: readonly string[]
  readonly command: readonly string[]
  readonly environment: readonly string[]
  readonly workingDirectory: string
  readonly user: string
  /** Paths declared as volumes. */
  readonly volumes?: readonly string[]
}

export interface BuildOptions {
  /** The context, plain or gzipped. */
  readonly tar: AsyncIterable<Uint8Array>
  /** Inside of the context. @default 'Dockerfile' */
  readonly dockerfile?: string
  readonly labels: Readonly<Record<string, string>>
  readonly timeoutMs: number
  onText(text: string): void
  readonly signal?: AbortSignal
}

export interface PullOptions {
  readonly reference: string
  readonly username?: string
  readonly password?: string
  onText(text: string): void
  readonly signal?: AbortSignal
}
