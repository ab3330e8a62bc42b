/**
 * The one place where it is decided how a container is confined. What a caller gives are the differences between
 * containers; that it has no capabilities, no new privileges, the engine's seccomp profile, a read-only root, bounds on
 * memory, processes, open files and logs, and that it never runs as root, is not up to any caller.
 */
import { CONTAINER_LIMITS, INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { ContainerSpec } from './engine.ts'

export interface ContainerSpecOptions {
  /** Id or reference. */
  readonly image: string
  /** Instead of the image's own. */
  readonly entryPoint?: readonly string[]
  readonly command?: readonly string[]
  readonly workingDirectory?: string
  /** The image's own; `containerUser` makes a user of it that is not root. */
  readonly imageUser?: string
  readonly environment?: Readonly<Record<string, string>>
  /** Swap included, and everything in `/tmp`. */
  readonly memoryMib: number
  /** Absent: not throttled; whoever starts it may do so later. */
  readonly cpus?: number
  /** Of `/tmp`. 0: there is none. */
  readonly ephemeralStorageMib: number
  /** Paths that the image declares as volumes. Each is a small `/tmp` of its own: a volume would be disk without a bound. */
  readonly volumes?: readonly string[]
  readonly binds?: readonly BindMount[]
  /** `none`, `container:<id>` or a network's name. */
  readonly networkMode: string
  readonly labels: Readonly<Record<string, string>>
  readonly cgroupParent?: string
  /** @default CONTAINER_LIMITS.openFilesMax */
  readonly openFilesMax?: number
  /**
   * Whether a tiny init is the first process: the kernel ignores SIGTERM for a first process that has no handler, and
   * nobody else would reap orphans. It costs a start nothing measurable; isola's own programs need none.
   * @default true
   */
  readonly init?: boolean
}

export interface BindMount {
  /** Must be there: the engine is not to make directories on the host. */
  readonly source: string
  readonly target: string
  readonly readOnly: boolean
}

const MIB = 1024 * 1024
const CPU_PERIOD_US = 100_000
/** Nobody on any machine: above what distributions give to people and services. */
export const FUNCTION_USER = '64000:64000'

export function containerSpec(options: ContainerSpecOptions): ContainerSpec {
  const { entryPoint, command, workingDirectory, environment = {} } = options
  return {
    Image: options.image,
    ...(entryPoint !== undefined && { Entrypoint: entryPoint }),
    ...(command !== undefined && { Cmd: command }),
    ...(workingDirectory !== undefined && { WorkingDir: workingDirectory }),
    Env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    User: containerUser(options.imageUser),
    Labels: options.labels,
    // An image's own would be an exec every few seconds, outside of every bound on starts.
    Healthcheck: { Test: ['NONE'] },
    HostConfig: { ...confinement(options), ...bounds(options), ...files(options) },
  }
}

function confinement({ networkMode, init = true }: ContainerSpecOptions): ContainerSpec['HostConfig'] {
  return {
    CapDrop: ['ALL'],
    // No word of seccomp: then the engine's own profile is in force.
    SecurityOpt: ['no-new-privileges'],
    Privileged: false,
    ReadonlyRootfs: true,
    NetworkMode: networkMode,
    PublishAllPorts: false,
    IpcMode: 'private',
    CgroupnsMode: 'private',
    RestartPolicy: { Name: 'no' },
    AutoRemove: false,
    Init: init,
  }
}

function bounds(options: ContainerSpecOptions): ContainerSpec['HostConfig'] {
  const { memoryMib, cpus, cgroupParent, openFilesMax = CONTAINER_LIMITS.openFilesMax } = options
  const { pidsMax, logFileBytesMax, logFilesMax } = CONTAINER_LIMITS
  return {
    Memory: memoryMib * MIB,
    MemorySwap: memoryMib * MIB,
    // Not NanoCpus: the engine refuses more of these than the machine has.
    ...(cpus !== undefined && { CpuPeriod: CPU_PERIOD_US, CpuQuota: Math.round(cpus * CPU_PERIOD_US) }),
    OomScoreAdj: INSTANCE_LIMITS.oomScoreAdjust,
    PidsLimit: pidsMax,
    Ulimits: [
      { Name: 'nofile', Soft: openFilesMax, Hard: openFilesMax },
      { Name: 'core', Soft: 0, Hard: 0 },
    ],
    ...(cgroupParent !== undefined && { CgroupParent: cgroupParent }),
    LogConfig: {
      Type: 'json-file',
      Config: { 'max-size': String(logFileBytesMax), 'max-file': String(logFilesMax) },
    },
  }
}

function files({
  ephemeralStorageMib,
  volumes = [],
  binds = [],
}: ContainerSpecOptions): ContainerSpec['HostConfig'] {
  const tmpfsOptions = `rw,nosuid,nodev,mode=1777,size=${ephemeralStorageMib}m`
  const taken = new Set(binds.map(({ target }) => target))
  const writable = ephemeralStorageMib === 0 ? [] : ['/tmp', ...volumes].filter((path) => !taken.has(path))
  return {
    Tmpfs: Object.fromEntries(writable.map((path) => [path, tmpfsOptions])),
    // The engine takes 0 for its default.
    ShmSize: Math.max(1, Math.min(ephemeralStorageMib, CONTAINER_LIMITS.sharedMemoryMibMax)) * MIB,
    Mounts: binds.map(({ source, target, readOnly }) => ({
      Type: 'bind',
      Source: source,
      Target: target,
      ReadOnly: readOnly,
      BindOptions: { Propagation: 'rprivate' },
    })),
  }
}

const USER = /^(\d{1,10})(?::(.*))?$/
const USER_ID_MAX = 2 ** 31 - 1

/**
 * The image's own user where it is a number and not root, else one that owns nothing. A name is not believed: the
 * image's own passwd says whom it means, and may say root. The group is never root's either.
 */
export function containerUser(imageUser = ''): string {
  const [, user = '', group] = USER.exec(imageUser) ?? []
  if (!isOrdinary(user)) return FUNCTION_USER
  return `${Number(user)}:${Number(group !== undefined && isOrdinary(group) ? group : user)}`
}

function isOrdinary(id: string): boolean {
  return /^\d{1,10}$/.test(id) && Number(id) > 0 && Number(id) <= USER_ID_MAX
}
