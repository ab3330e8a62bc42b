/** What the containers of each path are made of; how they are confined is `containerSpec`'s to say. */
import type { ContainerRuntime, ContainerVersion } from '../../sdk/model/function.ts'
import { lambdaVariables } from '../lambda/reserved-environment.ts'
import type { StartOptions } from '../pool/driver.ts'
import type { BlankClass } from './blank-class.ts'
import { labelsOf } from './container-labels.ts'
import { containerSpec, type BindMount } from './container-spec.ts'
import type { ContainerSpec, ImageInspection } from './engine.ts'
import type { Home } from './home.ts'
import { environmentOf } from './lambda-function.ts'
import type { ContainerParts } from './parts.ts'
import type { Sandbox } from './sandbox.ts'

/** V8 knows nothing of the container's memory: by its own account the heap would end at 259 MB, or beyond the limit. */
const COMMANDS: Readonly<Record<ContainerRuntime, readonly string[]>> = {
  nodejs24: ['node', '--max-old-space-size-percentage=70', '/opt/isola/node/client.js'],
  python3: ['python3', '/opt/isola/python/client.py'],
}
const API_DIRECTORY = '/run/isola'
const TASK_DIRECTORY = '/var/task'
/** Where AWS's runtimes find the Runtime API. */
const RUNTIME_API_ADDRESS = '127.0.0.1:9001'

interface Place {
  readonly home: Home
  readonly cgroupParent: string | undefined
}

interface Instance extends Place {
  readonly version: ContainerVersion
  /** In force. */
  readonly limits: StartOptions
  readonly sandbox: Sandbox
}

export function blankSpec(
  { isolationName }: ContainerParts,
  options: Place & {
    readonly imageId: string
    readonly blankClass: Extract<BlankClass, { type: 'runtime' }>
  },
): ContainerSpec {
  const { home, imageId, blankClass, cgroupParent } = options
  return containerSpec({
    image: imageId,
    entryPoint: COMMANDS[blankClass.runtime],
    command: [],
    init: false,
    memoryMib: blankClass.memoryMib,
    ephemeralStorageMib: blankClass.ephemeralStorageMib,
    binds: [apiBind(home), { source: home.taskDirectory, target: TASK_DIRECTORY, readOnly: true }],
    networkMode: 'none',
    labels: labelsOf({ isolationName, kind: 'blank', id: home.id }),
    ...(cgroupParent !== undefined && { cgroupParent }),
  })
}

/** Code that reaches the internet: it knows its function since its start, and asks for it all the same. */
export function codeSpec(
  parts: ContainerParts,
  options: Instance & {
    readonly runtime: ContainerRuntime
    readonly imageId: string
    readonly codeDirectory: string
  },
): ContainerSpec {
  const { home, runtime, imageId, codeDirectory } = options
  return containerSpec({
    ...instanceOptions(parts, options),
    image: imageId,
    entryPoint: COMMANDS[runtime],
    command: [],
    init: false,
    binds: [apiBind(home), { source: codeDirectory, target: TASK_DIRECTORY, readOnly: true }],
  })
}

export function imageSpec(
  parts: ContainerParts,
  options: Instance & {
    readonly image: ImageInspection
    /** Of protocol `lambda`. */
    readonly handler: string | undefined
  },
): ContainerSpec {
  const { version, limits, image, home, handler, sandbox } = options
  const { source } = version.content
  const own = environmentOf(version, parts)
  const { entryPoint, command, workingDirectory } = source.type === 'image' ? source : {}
  return containerSpec({
    ...instanceOptions(parts, options),
    image: image.id,
    imageUser: image.user,
    ...(image.volumes !== undefined && { volumes: image.volumes }),
    ...(entryPoint !== undefined && { entryPoint }),
    ...(command !== undefined && { command }),
    ...(workingDirectory !== undefined && { workingDirectory }),
    environment:
      handler === undefined
        ? { ...own, PORT: String(sandbox.port) }
        : lambdaVariables(
            {
              functionName: version.functionName,
              handler,
              memoryMib: limits.memoryMib,
              id: home.id,
              runtimeApi: RUNTIME_API_ADDRESS,
            },
            own,
          ),
  })
}

function instanceOptions({ isolationName, tools }: ContainerParts, options: Instance) {
  const { home, cgroupParent, limits, sandbox } = options
  const { ephemeralStorageMib, cpus } = options.version.content.settings
  return {
    memoryMib: limits.memoryMib,
    ephemeralStorageMib,
    // Else it is limited once it is ready: a start that is throttled takes a multiple of its time.
    ...(!tools.cgroups.canLimitCpus && { cpus }),
    networkMode: sandbox.networkMode,
    labels: labelsOf({ isolationName, kind: 'instance', id: home.id }),
    ...(cgroupParent !== undefined && { cgroupParent }),
  }
}

function apiBind({ apiDirectory }: Home): BindMount {
  return { source: apiDirectory, target: API_DIRECTORY, readOnly: true }
}
