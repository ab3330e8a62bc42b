import type { ConfigPath } from '../../sdk/config/document.ts'
import { formatPath, type Problem } from '../../sdk/config/problem.ts'
import type { ConfigFields } from './schema.ts'

/**
 * What becomes of fields that isola reads but cannot honour. A binding or anything else whose absence changes what
 * the function does is an error; what only concerns another service is a warning. Nothing is dropped in silence.
 */
type Unread = keyof ConfigFields

const KEEP_ELSEWHERE = 'remove it, or leave this function on the service that has it'

/** Field → what it would be, and what to do instead where there is something better than going without. */
const UNSUPPORTED: Partial<Record<Unread, { readonly what: string; readonly instead?: string }>> = {
  agent_memory: { what: 'agent memory' },
  ai: { what: 'AI bindings', instead: 'call a model over HTTP with fetch' },
  ai_search: { what: 'AI Search' },
  ai_search_namespaces: { what: 'AI Search' },
  analytics_engine_datasets: {
    what: 'Analytics Engine',
    instead: 'write with console.log and read `isola logs`',
  },
  artifacts: { what: 'artifacts' },
  browser: { what: 'browser rendering' },
  cloudchamber: { what: 'Cloudchamber' },
  containers: { what: 'containers behind Durable Objects' },
  d1_databases: { what: 'D1 databases' },
  data_blobs: { what: 'data blobs', instead: 'import the file: `import data from "./file.bin"`' },
  durable_objects: { what: 'Durable Objects' },
  exports: { what: 'declared exports' },
  flagship: { what: 'Flagship' },
  hyperdrive: { what: 'Hyperdrive' },
  images: { what: 'image bindings' },
  kv_namespaces: { what: 'KV namespaces' },
  logfwdr: { what: 'log forwarding', instead: 'read `isola logs`' },
  media: { what: 'media bindings' },
  migrations: { what: 'Durable Object migrations' },
  mtls_certificates: { what: 'client certificates' },
  pages_build_output_dir: { what: 'Pages projects', instead: 'write a function with "main"' },
  pipelines: { what: 'pipelines' },
  python_modules: { what: 'Python', instead: 'write the function in JavaScript or TypeScript' },
  queues: { what: 'queues' },
  r2_buckets: { what: 'R2 buckets' },
  secrets_store_secrets: { what: 'secrets' },
  send_email: { what: 'sending e-mail' },
  site: { what: 'Workers Sites', instead: 'import the files as text or data modules' },
  stream: { what: 'stream bindings' },
  streaming_tail_consumers: { what: 'tail consumers', instead: 'read `isola logs`' },
  tail_consumers: { what: 'tail consumers', instead: 'read `isola logs`' },
  text_blobs: { what: 'text blobs', instead: 'import the file: `import text from "./file.txt"`' },
  triggers: { what: 'cron triggers', instead: 'remove them and fetch the function from a timer of your own' },
  unsafe: { what: 'unsafe bindings' },
  unsafe_hello_world: { what: 'this binding' },
  vectorize: { what: 'Vectorize' },
  vpc_networks: { what: 'VPC bindings' },
  vpc_services: { what: 'VPC bindings' },
  wasm_modules: { what: 'Wasm blobs', instead: 'import the file: `import module from "./file.wasm"`' },
  worker_loaders: { what: 'worker loaders' },
  workflows: { what: 'workflows' },
}

/** Field → why it has no effect here. */
const HARMLESS: Partial<Record<Unread, string>> = {
  account_id: 'isola has no accounts',
  cache: 'isola does not cache responses',
  dev: '`isola dev` takes these settings as options',
  first_party_worker: 'it concerns another service',
  keep_vars: 'the variables of a version are those of its configuration',
  logpush: 'isola keeps the logs on the node: see `isola logs`',
  observability: 'isola always logs: see `isola logs`',
  placement: 'functions run on the node that gets the request',
  secrets: 'secrets that are set (isola secret put) stay, and none is asked for',
  previews: 'previews are the hosts of "preview_urls"',
  send_metrics: 'isola sends none',
  usage_model: 'isola has one usage model',
  zone_id: 'isola matches host names, not zones',
  zone_name: 'isola matches host names, not zones',
}

export function checkSupport(
  fields: ConfigFields,
  pathOf: (field: Unread) => ConfigPath,
): {
  readonly problems: readonly Problem[]
  readonly warnings: readonly { path: ConfigPath; message: string }[]
} {
  const problems: Problem[] = []
  const warnings: { path: ConfigPath; message: string }[] = []
  const refuse = (path: ConfigPath, message: string): void => {
    problems.push({ code: 'config_unsupported', path, message })
  }
  for (const [name, { what, instead }] of Object.entries(UNSUPPORTED)) {
    const field = name as Unread
    for (const { path, label } of entriesOf(fields[field], pathOf(field))) {
      const subject = label === '' ? `"${field}"` : `"${field}" ${label}`
      refuse(path, `${subject} needs ${what}, which isola does not have yet: ${instead ?? KEEP_ELSEWHERE}`)
    }
  }
  for (const [name, reason] of Object.entries(HARMLESS)) {
    const path = pathOf(name as Unread)
    if (!isEmpty(fields[name as Unread]))
      warnings.push({ path, message: `"${formatPath(path)}" has no effect: ${reason}` })
  }
  if (fields.node_compat !== undefined) {
    const message =
      '"node_compat" is an older way to use Node.js modules: remove it and add "nodejs_compat" to compatibility_flags'
    problems.push({ code: 'config_unsupported', path: pathOf('node_compat'), message })
  }
  if (fields.legacy_env === false) {
    refuse(
      pathOf('legacy_env'),
      '"legacy_env" is false, which asks for service environments: remove it; each environment becomes a function <name>-<environment>',
    )
  } else if (fields.legacy_env !== undefined) {
    warnings.push({
      path: pathOf('legacy_env'),
      message: '"legacy_env" has no effect: environments are always functions of their own',
    })
  }
  if (!isNothing(fields.compliance_region)) {
    refuse(
      pathOf('compliance_region'),
      '"compliance_region" cannot be kept: remove it; the function runs on the machines that you choose',
    )
  }
  if (fields.limits?.subrequests !== undefined) {
    const path = [...pathOf('limits'), 'subrequests']
    warnings.push({
      path,
      message: `"${formatPath(path)}" has no effect: isola does not limit the number of requests yet`,
    })
  }
  for (const [index, flag] of (fields.compatibility_flags ?? []).entries()) {
    if (flag.startsWith('python_'))
      refuse(
        [...pathOf('compatibility_flags'), index],
        `the flag "${flag}" asks for Python, which isola does not run: ${UNSUPPORTED.python_modules?.instead}`,
      )
  }
  return { problems, warnings }
}

interface Entry {
  readonly path: ConfigPath
  /** `binding "KV"`; empty where the field itself is all there is to name. */
  readonly label: string
}

/** The bindings (or whatever else) that a field of any shape asks for. Empty arrays and objects ask for nothing. */
function entriesOf(value: unknown, path: ConfigPath): readonly Entry[] {
  if (isNothing(value)) return []
  if (Array.isArray(value)) {
    return value.map((element, index) => ({ path: [...path, index], label: labelOf(element) }))
  }
  if (typeof value !== 'object') return [{ path, label: value === true ? '' : JSON.stringify(value) }]
  const parts = Object.entries(value as object)
  // `durable_objects.bindings`, `queues.producers`, `triggers.crons`: the lists are what counts.
  const lists = parts.filter(([, part]) => Array.isArray(part))
  const isGroup = parts.every(([, part]) => Array.isArray(part) || isNothing(part))
  if (isGroup) return lists.flatMap(([key, list]) => entriesOf(list, [...path, key]))
  return [{ path, label: labelOf(value) }]
}

function labelOf(entry: unknown): string {
  if (typeof entry === 'string') return JSON.stringify(entry)
  if (typeof entry !== 'object' || entry === null) return ''
  const fields = entry as Record<string, unknown>
  for (const key of ['binding', 'name', 'queue', 'tag', 'service', 'class_name', 'directory', 'bucket']) {
    const value = fields[key]
    if (typeof value === 'string') return `${key === 'name' ? 'binding' : key} ${JSON.stringify(value)}`
  }
  return Object.keys(fields)
    .slice(0, 5)
    .map((key) => JSON.stringify(key))
    .join(', ')
}

function isEmpty(value: unknown): boolean {
  return value === undefined || (typeof value === 'object' && Object.keys(value ?? {}).length === 0)
}

/** Asks for nothing: a list without entries, a switch that is off. */
function isNothing(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === '') return true
  if (Array.isArray(value)) return value.length === 0
  return typeof value === 'object' && Object.values(value).every(isNothing)
}
