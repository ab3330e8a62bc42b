import { z } from 'zod'
import { RULE_TYPES } from '../../bundler/module-rules.ts'
import type { ShapeRules } from '../../sdk/config/check-shape.ts'
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'

/**
 * The one description of a configuration file: what is checked, the types, and the JSON Schema for editors come from
 * it. Fields with `unread` shapes are known by name only; `support.ts` says what becomes of each.
 */
const unread = z.unknown()

const route = z.union([
  z.string(),
  z.strictObject({
    pattern: z.string(),
    custom_domain: z.boolean().optional(),
    zone_id: z.string().optional(),
    zone_name: z.string().optional(),
  }),
])

const rule = z.strictObject({
  type: z.enum(RULE_TYPES),
  globs: z.array(z.string().min(1)).min(1),
  fallthrough: z.boolean().optional(),
})

const service = z.strictObject({
  binding: z.string().min(1),
  service: z.string(),
  entrypoint: z.string().optional(),
  environment: z.string().optional(),
  props: unread.optional(),
  remote: z.boolean().optional(),
})

const assets = z.strictObject({
  directory: z.string().optional().describe('Of the static files, relative to this file.'),
  binding: z.string().min(1).optional().describe('`env.<binding>.fetch()` serves them to the code.'),
  html_handling: z
    .enum(['auto-trailing-slash', 'force-trailing-slash', 'drop-trailing-slash', 'none'])
    .optional(),
  not_found_handling: z.enum(['single-page-application', '404-page', 'none']).optional(),
  run_worker_first: z
    .union([z.boolean(), z.array(z.string())])
    .optional()
    .describe('Paths that go to the code first: all, or rules such as "/api/*" and "!/api/docs/*".'),
})

/** Fields that a named environment takes from the top level where it has none of its own. */
const inheritable = {
  name: z.string().describe('Name of the function: becomes a host name.'),
  main: z.string().describe('Entry point, relative to this file.'),
  compatibility_date: z.string().describe('YYYY-MM-DD: fixes the behaviour of the runtime.'),
  compatibility_flags: z.array(z.string()),
  route: route.describe('host/path that the function answers for.'),
  routes: z.array(route).describe('host/path patterns that the function answers for.'),
  workers_dev: z.boolean().describe('Answer on <function>.<base domain>. Default: true.'),
  preview_urls: z.boolean().describe('Answer on a host per version. Default: as workers_dev.'),
  limits: z.strictObject({
    cpu_ms: z.number().int().min(1).max(INSTANCE_LIMITS.cpuMsMax).optional(),
    subrequests: z.number().int().min(1).optional(),
  }),
  no_bundle: z.boolean().describe('Send the files as they are. Default: false.'),
  find_additional_modules: z.boolean(),
  base_dir: z.string().describe('Where modules are found by rule. Default: the directory of main.'),
  preserve_file_names: z.boolean(),
  rules: z.array(rule).describe('Which files are imported as modules of their own, and as what.'),
  minify: z.boolean(),
  keep_names: z.boolean(),
  tsconfig: z.string(),
  jsx_factory: z.string(),
  jsx_fragment: z.string(),
  upload_source_maps: z.boolean().describe('Keep source maps, for stacks in logs. Default: true.'),
  build: z.strictObject({
    command: z.string().optional(),
    cwd: z.string().optional(),
    watch_dir: z.union([z.string(), z.array(z.string())]).optional(),
  }),
  account_id: unread,
  assets: assets.describe('Static files that are served in front of the code, or instead of it.'),
  cache: unread,
  compliance_region: unread,
  first_party_worker: unread,
  logfwdr: unread,
  logpush: unread,
  migrations: unread,
  observability: unread,
  pages_build_output_dir: unread,
  placement: unread,
  previews: unread,
  python_modules: unread,
  triggers: unread,
  usage_model: unread,
  zone_id: unread,
  zone_name: unread,
  node_compat: z.boolean(),
}

/** Fields that a named environment has to repeat. */
const nonInheritable = {
  vars: z.record(z.string(), z.unknown()).describe('Values in env: strings as text, all else as JSON.'),
  define: z.record(z.string(), z.string()).describe('Identifier → JavaScript expression.'),
  agent_memory: unread,
  ai: unread,
  ai_search: unread,
  ai_search_namespaces: unread,
  analytics_engine_datasets: unread,
  artifacts: unread,
  browser: unread,
  cloudchamber: unread,
  containers: unread,
  d1_databases: unread,
  dispatch_namespaces: unread,
  durable_objects: unread,
  exports: unread,
  flagship: unread,
  hyperdrive: unread,
  images: unread,
  kv_namespaces: unread,
  media: unread,
  mtls_certificates: unread,
  pipelines: unread,
  queues: unread,
  r2_buckets: unread,
  ratelimits: unread,
  secrets: unread,
  secrets_store_secrets: unread,
  send_email: unread,
  services: z
    .array(service)
    .describe(
      'Other functions to call with `env.<binding>.fetch()`: {"binding": "STOCK", "service": "stock"}.',
    ),
  stream: unread,
  streaming_tail_consumers: unread,
  tail_consumers: unread,
  unsafe: unread,
  unsafe_hello_world: unread,
  vectorize: unread,
  version_metadata: unread,
  vpc_networks: unread,
  vpc_services: unread,
  worker_loaders: unread,
  workflows: unread,
}

/** Fields that only the top level has, for every environment. */
const topLevel = {
  alias: z.record(z.string(), z.string()).describe('Import specifier → the specifier to use instead.'),
  data_blobs: unread,
  dev: unread,
  keep_vars: unread,
  legacy_env: unread,
  send_metrics: unread,
  site: unread,
  text_blobs: unread,
  wasm_modules: unread,
}

const environment = z.strictObject({ ...inheritable, ...nonInheritable }).partial()

export const configSchema = z
  .strictObject({
    $schema: z.string(),
    ...inheritable,
    ...nonInheritable,
    ...topLevel,
    env: z.record(z.string(), environment),
  })
  .partial()

export type Config = z.infer<typeof configSchema>
/** One environment's fields: what a configuration says once the environment is chosen. */
export type ConfigFields = Omit<Config, '$schema' | 'env'>
export type ConfigRoute = z.infer<typeof route>

export const INHERITABLE_FIELDS = Object.keys(inheritable) as (keyof typeof inheritable)[]
export const NON_INHERITABLE_FIELDS = Object.keys(nonInheritable) as (keyof typeof nonInheritable)[]
export const TOP_LEVEL_FIELDS = Object.keys(topLevel) as (keyof typeof topLevel)[]

/** For editors: what `$schema` of a configuration can point to. */
export function configJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' })
}

/** What `checkShape` needs of it. */
export const CONFIG_SHAPE: ShapeRules<typeof configSchema> = {
  schema: configSchema,
  jsonSchema: configJsonSchema,
  example: '{ "name": "hello", "main": "index.ts" }',
  unionWords: (path) =>
    path.includes('watch_dir')
      ? 'give a string or an array of strings'
      : path.includes('run_worker_first')
        ? 'give true, false or an array of rules'
        : 'give a string or an object with "pattern"',
}
