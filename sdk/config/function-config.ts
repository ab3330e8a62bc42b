import type { BuildOptions } from '../../bundler/build-options.ts'
import type {
  AssetsConfig,
  Binding,
  ContainerProtocol,
  ContainerRuntime,
  ContainerSettings,
  VariableBinding,
  VersionLimits,
} from '../model/function.ts'

/** A configuration in isola's words: everything a deploy needs to know but the code. */
export type FunctionConfig = WorkerConfig | ContainerConfig

interface CommonConfig {
  /** Absolute. Absent where there is none and the command line said it all. */
  readonly file?: string
  readonly projectDirectory: string
  readonly functionName: string
  readonly limits: Partial<VersionLimits>
  readonly routes: readonly { readonly pattern: string }[]
  readonly baseDomainHost: boolean
  readonly previewHosts: boolean
  /** For people, with file and line: fields that have no effect, and the like. */
  readonly warnings: readonly string[]
}

export interface WorkerConfig extends CommonConfig {
  readonly kind: 'worker'
  /** Its `main` is empty where there is no code and all are static files. */
  readonly build: BuildOptions
  readonly assets?: AssetsSource
  readonly bindings: readonly Binding[]
  readonly compatibilityDate: string
  readonly compatibilityFlags: readonly string[]
}

/** Static files of a worker function. `_headers` and `_redirects` are read with them. */
export interface AssetsSource {
  /** Absolute. */
  readonly directory: string
  /** Without what is the default anyway. */
  readonly config: AssetsConfig
}

export interface ContainerConfig extends CommonConfig {
  readonly kind: 'container'
  readonly protocol: ContainerProtocol
  readonly source: SourceConfig
  readonly bindings: readonly VariableBinding[]
  /** Only what the configuration says. */
  readonly settings: Partial<ContainerSettings>
}

/** Where the code or the image of a container function comes from. Paths are absolute. */
export type SourceConfig =
  | {
      readonly type: 'directory'
      readonly directory: string
      readonly runtime: ContainerRuntime
      readonly handler: string
      /** Absent: all but what never belongs in an archive. */
      readonly include?: readonly string[]
      readonly exclude: readonly string[]
    }
  | {
      readonly type: 'archive'
      readonly path: string
      readonly runtime: ContainerRuntime
      readonly handler: string
    }
  | ({ readonly type: 'dockerfile'; readonly directory: string; readonly path: string } & RunConfig)
  | ({ readonly type: 'image-file'; readonly path: string } & RunConfig)
  | ({ readonly type: 'image-reference'; readonly reference: string } & RunConfig)

/** Instead of what the image itself says. */
export interface RunConfig {
  readonly entryPoint?: readonly string[]
  readonly command?: readonly string[]
  readonly workingDirectory?: string
}
