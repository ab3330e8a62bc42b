/** Types that Cloudflare has and isola does not: what each is, and what there is instead. */
const NOT_YET: Readonly<Record<string, readonly [what: string, instead?: string]>> = {
  kv_namespace: ['KV namespaces'],
  r2_bucket: ['R2 buckets', 'call an S3 endpoint with fetch()'],
  d1: ['D1 databases', 'reach a database over HTTP or connect()'],
  durable_object_namespace: ['Durable Objects'],
  queue: ['queues'],
  workflow: ['Workflows'],
  hyperdrive: ['Hyperdrive', 'connect to the database itself'],
  analytics_engine: ['Analytics Engine', 'write log lines, or send points with fetch()'],
  analytics: ['Analytics Engine', 'write log lines, or send points with fetch()'],
  vectorize: ['Vectorize', 'call a vector database with fetch()'],
  ai: ['Workers AI', 'call a model with fetch()'],
  ai_search: ['AI Search', 'call a search service with fetch()'],
  ai_search_namespace: ['AI Search', 'call a search service with fetch()'],
  agent_memory: ['agent memory'],
  artifacts: ['artifacts'],
  browser: ['browser rendering', 'run a browser in a container function'],
  images: ['the Images service', 'transform images in a container function'],
  media: ['media transformations', 'transform media in a container function'],
  stream: ['Stream'],
  send_email: ['email', 'call a mail service with fetch()'],
  secrets_store_secret: ['a Secrets Store', 'use a secret of the function: wrangler secret put'],
  secret_key: ['keys as bindings', 'keep the key in a secret and import it with crypto.subtle.importKey()'],
  mtls_certificate: ['client certificates'],
  pipelines: ['Pipelines'],
  vpc_service: ['VPC services', 'allow the address for all functions: isola up --allow-egress CIDR'],
  vpc_network: ['VPC networks', 'allow the addresses for all functions: isola up --allow-egress CIDR'],
  logfwdr: ['log forwarding', 'read the lines with "isola logs" or "wrangler tail"'],
  worker_loader: ['loading Workers at run time', 'deploy each as a function of its own'],
  flagship: ['feature flags'],
  k2: ['K2 streams'],
  unsafe_hello_world: ['this test service'],
}

/** Why a binding of a type that is not among ours is refused. */
export function unsupportedBinding({ name, type }: { readonly name: string; readonly type: string }): string {
  const known = Object.hasOwn(NOT_YET, type) ? NOT_YET[type] : undefined
  const subject = `binding ${JSON.stringify(name.slice(0, 128))} of type ${JSON.stringify(type.slice(0, 64))}`
  if (known === undefined) return `${subject} is of no type that isola knows: remove it`
  const [what, instead] = known
  return `${subject} needs ${what}, which isola does not have yet: remove it${instead === undefined ? ', or keep this function on Cloudflare' : `, and ${instead}`}`
}
