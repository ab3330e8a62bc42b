import { z } from 'zod'
import { RULE_TYPES } from '../../bundler/module-rules.ts'
import { CONTAINER_RUNTIMES, DEFAULT_CONTAINER_SETTINGS } from '../model/function.ts'
import { CONTAINER_LIMITS, INSTANCE_LIMITS } from '../model/limits.ts'
import { DEFAULT_POLICY } from '../model/policy.ts'
import type { ShapeRules } from './check-shape.ts'
import type { ConfigPath } from './document.ts'

/**
 * The one description of `isola.jsonc`: what is checked, the types, and the JSON Schema for editors come from it. What
 * runs decides the kind: `main` makes a worker function; `handler`, `dockerfile` or `image` a container function.
 */
const { timeoutMs, cpus, ephemeralStorageMib, egress, responseStreaming, port } = DEFAULT_CONTAINER_SETTINGS

const route = z.union([z.string(), z.strictObject({ pattern: z.string() })])
const words = z.array(z.string()).min(1)
const globs = z.array(z.string().min(1))

/** Of both kinds. Inherited by environments. */
const common = {
  name: z.string().meta({
    description:
      'Name of the function, 1 to 63 of a-z, 0-9 and inner "-": becomes a host name. In an environment: <name>-<environment> unless it has its own.',
  }),
  routes: z.array(route).meta({
    description: 'host/path patterns that the function answers for, e.g. "shop.example/api/*".',
    default: [],
  }),
  baseDomainHost: z.boolean().meta({ description: 'Answer on <function>.<base domain>.', default: true }),
  previewHosts: z.boolean().meta({
    description: 'Answer on <version>-<function>.<base domain>. Default: as baseDomainHost.',
  }),
  memoryMib: z
    .number()
    .int()
    .min(INSTANCE_LIMITS.memoryMibMin)
    .max(INSTANCE_LIMITS.memoryMibMax)
    .meta({
      description: `Memory of one instance in MiB, ${INSTANCE_LIMITS.memoryMibMin} to ${INSTANCE_LIMITS.memoryMibMax}. Default: the fleet's ("isola limits").`,
    }),
}

const worker = {
  main: z.string().meta({
    description:
      'Entry point of a worker function, relative to this file: the module with the default export.',
  }),
  compatibilityDate: z
    .string()
    .meta({ description: 'YYYY-MM-DD: fixes the behaviour of the runtime. Needed.' }),
  compatibilityFlags: z
    .array(z.string())
    .meta({ description: 'Flags of the runtime, e.g. "nodejs_compat".', default: [] }),
  cpuMs: z
    .number()
    .int()
    .min(1)
    .max(INSTANCE_LIMITS.cpuMsMax)
    .meta({
      description: `CPU milliseconds an instance may burn without answering, 1 to ${INSTANCE_LIMITS.cpuMsMax}. Default: the fleet's.`,
    }),
  assets: z
    .strictObject({
      directory: z.string().optional().meta({ description: 'Of the static files, relative to this file.' }),
      binding: z
        .string()
        .min(1)
        .optional()
        .meta({ description: 'env.<binding>.fetch() serves them to the code.' }),
      htmlHandling: z
        .enum(['auto-trailing-slash', 'force-trailing-slash', 'drop-trailing-slash', 'none'])
        .optional()
        .meta({ description: 'Which path a page has. Default: auto-trailing-slash.' }),
      notFoundHandling: z
        .enum(['single-page-application', '404-page', 'none'])
        .optional()
        .meta({ description: 'What a path without a file is answered with. Default: none.' }),
      runWorkerFirst: z
        .union([z.boolean(), z.array(z.string())])
        .optional()
        .meta({
          description:
            'Paths that go to the code first: all, or rules such as "/api/*" and "!/api/docs/*". Default: false.',
        }),
    })
    .meta({
      description:
        'Static files that are served in front of a worker function, or, without "main", instead of one.',
    }),
  noBundle: z.boolean().meta({ description: 'Send the files as they are.', default: false }),
  rules: z
    .array(
      z.strictObject({
        type: z.enum(RULE_TYPES),
        globs: globs.min(1),
        fallthrough: z.boolean().optional(),
      }),
    )
    .meta({ description: 'Which files are imported as modules of their own, and as what.' }),
}

const container = {
  handler: z.string().meta({
    description:
      'What is called of this directory, "file.export", e.g. "index.handler". Needs "runtime"; the directory is sent as a zip archive.',
  }),
  runtime: z.enum(CONTAINER_RUNTIMES).meta({ description: 'What runs the handler.' }),
  archive: z.string().meta({
    description:
      'A zip archive that is ready, relative to this file, instead of the files of this directory.',
  }),
  include: globs.meta({
    description:
      'Globs of the files of a handler directory that are sent. Default: all but version control, virtual environments, caches and this file.',
  }),
  exclude: globs.meta({
    description: 'Globs of files of a handler directory that are not sent.',
    default: [],
  }),
  dockerfile: z.union([z.literal(true), z.string().min(1)]).meta({
    description: 'Built on the node: path of a Dockerfile below this directory, or true for "Dockerfile".',
  }),
  image: z.string().min(1).meta({
    description:
      'An image: path of a tarball that ends in .tar, .tar.gz or .tgz (docker save, OCI), or a reference to pull.',
  }),
  protocol: z.enum(['lambda', 'http']).meta({
    description:
      '"lambda": events by the Lambda Runtime API. "http": it listens on $PORT. Default: lambda for a handler, http for a dockerfile and an image.',
  }),
  port: z
    .number()
    .int()
    .min(1)
    .max(65_535)
    .meta({ description: 'Protocol http: where it listens; what $PORT says. 1 to 65535.', default: port }),
  cpus: z
    .number()
    .min(CONTAINER_LIMITS.cpusMin)
    .max(CONTAINER_LIMITS.cpusMax)
    .meta({
      description: `Cores, ${CONTAINER_LIMITS.cpusMin} to ${CONTAINER_LIMITS.cpusMax}.`,
      default: cpus,
    }),
  timeout: z
    .union([
      z.number(),
      z
        .string()
        .regex(/^\d{1,9}(?:\.\d{1,3})?(?:ms|s|m|h)$/, 'write a time with its unit, e.g. "30s" or "5m"'),
    ])
    .meta({
      description: `Protocol lambda: longest time of one invocation, e.g. "30s" or a number of ms. ${CONTAINER_LIMITS.timeoutMsMin} ms to ${CONTAINER_LIMITS.timeoutMsMax} ms.`,
      default: `${timeoutMs / 1000}s`,
    }),
  ephemeralStorageMib: z
    .number()
    .int()
    .min(CONTAINER_LIMITS.ephemeralStorageMibMin)
    .max(CONTAINER_LIMITS.ephemeralStorageMibMax)
    .meta({
      description: `Size of /tmp in MiB, ${CONTAINER_LIMITS.ephemeralStorageMibMin} to ${CONTAINER_LIMITS.ephemeralStorageMibMax}. What lies there counts as memory.`,
      default: ephemeralStorageMib,
    }),
  egress: z.boolean().meta({
    description: 'Whether it reaches the public internet; else it has no network at all.',
    default: egress,
  }),
  responseStreaming: z.boolean().meta({
    description: 'Protocol lambda: stream responses through instead of collecting them.',
    default: responseStreaming,
  }),
  entryPoint: words.meta({ description: 'Of a dockerfile or an image: instead of its own ENTRYPOINT.' }),
  command: words.meta({ description: 'Of a dockerfile or an image: instead of its own CMD.' }),
  workingDirectory: z
    .string()
    .min(1)
    .meta({ description: 'Of a dockerfile or an image: absolute path, instead of its own WORKDIR.' }),
}

/** An environment repeats these. */
const nonInheritable = {
  vars: z.record(z.string(), z.unknown()).meta({
    description:
      'Variables: strings as text, all else as JSON. In env of a worker, in the environment of a container.',
    default: {},
  }),
  define: z
    .record(z.string(), z.string())
    .meta({ description: 'Worker functions: identifier → JavaScript expression.' }),
  services: z
    .array(z.strictObject({ binding: z.string(), service: z.string() }))
    .meta({ description: 'Worker functions: other functions in env, by name: env.<binding>.fetch().' }),
}

const topLevel = {
  alias: z
    .record(z.string(), z.string())
    .meta({ description: 'Worker functions: import specifier → the specifier to use instead.' }),
}

const inheritable = { ...common, ...worker, ...container }

const environment = z.strictObject({ ...inheritable, ...nonInheritable }).partial()

export const configSchema = z
  .strictObject({
    $schema: z.string(),
    ...inheritable,
    ...nonInheritable,
    ...topLevel,
    env: z.record(z.string(), environment).meta({
      description:
        'Environments by name ("isola deploy --env NAME"): each a function of its own. What one does not say is as above, but for vars, define and services.',
    }),
  })
  .partial()

export type ConfigFields = Omit<z.infer<typeof configSchema>, '$schema' | 'env'>
export type ConfigField = keyof ConfigFields

export const SOURCE_FIELDS = ['main', 'handler', 'dockerfile', 'image'] as const
export type SourceField = (typeof SOURCE_FIELDS)[number]

export const ENVIRONMENT_RULES = {
  inheritable: Object.keys(inheritable),
  nonInheritable: Object.keys(nonInheritable),
  topLevel: Object.keys(topLevel),
  exclusive: SOURCE_FIELDS,
} as const

const imageFields = ['entryPoint', 'command', 'workingDirectory'] as const
const codeFields = ['runtime', 'archive', 'include', 'exclude'] as const
const containerFields = (Object.keys(container) as (keyof typeof container)[]).filter(
  (field) => ![...SOURCE_FIELDS, ...imageFields, ...codeFields].some((other) => other === field),
)
const commonFields = [...(Object.keys(common) as (keyof typeof common)[]), 'vars'] as const
const workerFields = Object.keys(worker).filter((field) => field !== 'main') as (keyof typeof worker)[]

/** What may stand beside each source. */
export const FIELDS_BY_SOURCE: Readonly<Record<SourceField, readonly ConfigField[]>> = {
  main: [...commonFields, ...workerFields, 'define', 'services', 'alias'],
  handler: [...commonFields, ...containerFields, ...codeFields],
  dockerfile: [...commonFields, ...containerFields, ...imageFields],
  image: [...commonFields, ...containerFields, ...imageFields],
}

/** For editors: what `$schema` of a configuration can point to. */
export function configJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' })
}

const POLICY_WORDS = ['policy', 'scale', 'scaling', ...Object.keys(DEFAULT_POLICY)]

/** Names that other configurations have for what is here. */
const OTHER_NAMES: Readonly<Record<string, string>> = {
  workers_dev: 'baseDomainHost',
  preview_urls: 'previewHosts',
  no_bundle: 'noBundle',
  limits: 'memoryMib" and "cpuMs',
  cpu_ms: 'cpuMs',
  memory: 'memoryMib',
  memorySize: 'memoryMib',
  cpu: 'cpus',
  entrypoint: 'entryPoint',
  cmd: 'command',
  environment: 'vars',
  variables: 'vars',
  route: 'routes',
}

export const CONFIG_SHAPE: ShapeRules<typeof configSchema> = {
  schema: configSchema,
  jsonSchema: configJsonSchema,
  example: '{ "name": "hello", "main": "index.ts", "compatibilityDate": "2026-11-01" }',
  unionWords(path) {
    const field = path.findLast((key) => typeof key === 'string')
    if (field === 'dockerfile')
      return 'give the path of a Dockerfile, or true for "Dockerfile" beside this file'
    if (field === 'timeout') return 'give a time with its unit, e.g. "30s", or a number of milliseconds'
    if (path.includes('runWorkerFirst')) return 'give true, false or an array of rules'
    return 'give a string or an object with "pattern"'
  },
  unknownWords: (key: string, path: ConfigPath) => {
    if (path.length > 0 && path[0] !== 'env') return undefined
    if (POLICY_WORDS.includes(key)) {
      return 'how many instances run and how requests wait is the function\'s policy, which changes without a deploy: set it with "isola scale"'
    }
    return Object.hasOwn(OTHER_NAMES, key) ? `write "${OTHER_NAMES[key]}"` : undefined
  },
}
