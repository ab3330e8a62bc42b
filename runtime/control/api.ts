/**
 * The native control API over HTTP: what sdk/model/control.ts lists, each line of it one operation. The token is
 * asked for before anything else, also for paths that do not exist.
 */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto'
import { Hono, type Context } from 'hono'
import { IsolaError, isIsolaError } from '../../sdk/model/errors.ts'
import { BUNDLE_LIMITS, CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { accessKeys, createKeyRequestSchema, deleteKey } from './access-keys.ts'
import { createVersion } from './create-version.ts'
import { discardDeadLetter, getDeadLetter, listDeadLetters, redriveDeadLetter } from './dead-letters.ts'
import { deleteFunction } from './delete-function.ts'
import { deploy } from './deploy.ts'
import { errorResponse } from './error-response.ts'
import { findFunction } from './find-function.ts'
import { getLimits, setLimits } from './function-limits.ts'
import { buildImage, loadImage, pullImage, type ImageStreamOptions } from './images.ts'
import { invokeFunction } from './invoke.ts'
import { listVersions } from './list-versions.ts'
import { openLogStream } from './log-stream.ts'
import { getPolicy, setPolicy } from './policy.ts'
import type { ControlPorts } from './ports.ts'
import { readBody, readJson } from './request-body.ts'
import { rollback } from './rollback.ts'
import { addRoute, listRoutes, removeRoute } from './routes.ts'
import {
  addRouteRequestSchema,
  deployRequestSchema,
  missingBlobsRequestSchema,
  patchRequestSchema,
  pullRequestSchema,
  putSecretRequestSchema,
  removeRouteRequestSchema,
  rollbackRequestSchema,
  settingsRequestSchema,
  trafficRequestSchema,
  versionRequestSchema,
} from './schema.ts'
import { listSecrets, setSecret, withKeptSecrets } from './secrets.ts'
import { readActor, type ChangeRequest } from './setting-change.ts'
import { getSettings, setSettings } from './settings.ts'
import { setTraffic } from './traffic.ts'
import { parseUsageQuery } from './usage-query.ts'

export interface ControlApiOptions {
  /** What clients must send as `authorization: Bearer <token>`. */
  readonly token: string
  /** Hears every fault that a client only sees as `internal`. @default writes it to stderr */
  readonly onFault?: (error: unknown, requestId: string) => void
  /** @default CONTROL_LIMITS.logHeartbeatMs */
  readonly logHeartbeatMs?: number
}

interface Env {
  Variables: { requestId: string }
}

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'
/** A plain value is answered as JSON. */
type Handler = (context: Context<Env>, name: string) => object | Promise<object>

export function createControlApi(ports: ControlPorts, options: ControlApiOptions): Hono<Env> {
  const app = new Hono<Env>()
  const isToken = tokenCheck(options.token)
  const onFault = options.onFault ?? reportToStderr

  app.use(async (context, next) => {
    const requestId = randomUUID()
    context.set('requestId', requestId)
    if (!isToken(context.req.header('authorization'))) {
      throw new IsolaError(
        'unauthorized',
        'the control API needs "authorization: Bearer <token>": the token is in the file "token" of the node’s data directory (ISOLA_TOKEN for the command line)',
      )
    }
    await next()
    context.header('x-request-id', requestId)
    context.header('cache-control', 'no-store')
  })
  for (const [path, handlers] of Object.entries(endpoints(ports, options))) {
    for (const [method, handle] of Object.entries(handlers)) {
      app.on(method, path, async (context) => {
        const result = await handle(context, context.req.param('name') ?? '')
        return result instanceof Response ? result : context.json(result)
      })
    }
    app.all(path, (context) => {
      const allow = Object.keys(handlers).join(', ')
      throw new IsolaError(
        'method_not_allowed',
        `${context.req.method} is not a method of ${context.req.path}: use ${allow}`,
        { details: { allow } },
      )
    })
  }
  app.notFound((context) => {
    throw new IsolaError(
      'not_found',
      `the control API has no ${context.req.path}: its paths begin with /v1, e.g. /v1/functions`,
    )
  })
  app.onError((error, context) => {
    const requestId = context.get('requestId')
    if (!isIsolaError(error) || error.code === 'internal') onFault(error, requestId)
    const response = errorResponse(error, requestId)
    response.headers.set('x-request-id', requestId)
    response.headers.set('cache-control', 'no-store')
    return response
  })
  return app
}

function endpoints(
  ports: ControlPorts,
  options: ControlApiOptions,
): Record<string, Partial<Record<Method, Handler>>> {
  const { registry } = ports
  return {
    '/v1/status': { GET: () => ports.status() },
    '/v1/blobs/missing': {
      POST: async (context) => {
        const { digests } = await readJson(context.req.raw, missingBlobsRequestSchema)
        return { missing: await missingBlobs(ports, digests) }
      },
    },
    '/v1/blobs/:sha256': { PUT: (context) => putBlob(ports, context) },
    '/v1/functions': { GET: () => ({ functions: Object.values(registry.head.functions) }) },
    '/v1/functions/:name': {
      GET: (_, name) => findFunction(registry.head, name),
      DELETE: (_, name) => deleteFunction(ports, name),
    },
    '/v1/functions/:name/versions': {
      GET: async (_, name) => ({ versions: await listVersions(ports, name) }),
      POST: async (context, name) =>
        withKeptSecrets(ports, {
          functionName: name,
          request: await readJson(context.req.raw, versionRequestSchema),
          make: (request, amend) => createVersion(ports, name, request, amend),
        }),
    },
    '/v1/functions/:name/deploy': {
      POST: async (context, name) =>
        withKeptSecrets(ports, {
          functionName: name,
          request: await readJson(context.req.raw, deployRequestSchema),
          make: (request, amend) => deploy(ports, name, request, amend),
        }),
    },
    '/v1/functions/:name/secrets': {
      GET: async (_, name) => ({ secrets: await listSecrets(ports, name) }),
    },
    '/v1/functions/:name/secrets/:secret': {
      PUT: async (context, functionName) => {
        const { text } = await readJson(context.req.raw, putSecretRequestSchema)
        return setSecret(ports, { functionName, name: context.req.param('secret') ?? '', text })
      },
      DELETE: (context, functionName) =>
        setSecret(ports, { functionName, name: context.req.param('secret') ?? '', text: undefined }),
    },
    '/v1/functions/:name/traffic': {
      POST: async (context, name) =>
        setTraffic(ports, name, await readJson(context.req.raw, trafficRequestSchema)),
    },
    '/v1/functions/:name/rollback': {
      POST: async (context, name) =>
        rollback(ports, name, await readJson(context.req.raw, rollbackRequestSchema)),
    },
    '/v1/routes': { GET: () => ({ routes: listRoutes(registry.head) }) },
    '/v1/functions/:name/routes': {
      PUT: async (context, name) =>
        addRoute(ports, name, await readJson(context.req.raw, addRouteRequestSchema)),
      DELETE: async (context, name) =>
        removeRoute(ports, name, await readJson(context.req.raw, removeRouteRequestSchema)),
    },
    '/v1/functions/:name/policy': {
      GET: (_, name) => getPolicy(ports, name),
      PUT: async (context, name) => setPolicy(ports, name, await readChange(context)),
    },
    '/v1/functions/:name/limits': {
      GET: (_, name) => getLimits(ports, name),
      PUT: async (context, name) => setLimits(ports, name, await readChange(context)),
    },
    '/v1/functions/:name/invoke': {
      POST: (context, name) =>
        invokeFunction(ports, name, { request: context.req.raw, requestId: context.get('requestId') }),
    },
    '/v1/functions/:name/dead-letters': {
      GET: (context, name) => listDeadLetters(ports, name, context.req.query('limit')),
    },
    '/v1/dead-letters/:name': {
      GET: (_, id) => getDeadLetter(ports, id),
      DELETE: (_, id) => discardDeadLetter(ports, id),
    },
    '/v1/dead-letters/:name/redrive': { POST: (_, id) => redriveDeadLetter(ports, id) },
    '/v1/settings': {
      GET: () => getSettings(ports),
      PUT: async (context) => {
        const by = actorOf(context)
        return setSettings(ports, { ...(await readJson(context.req.raw, settingsRequestSchema)), by })
      },
    },
    '/v1/keys': {
      GET: () => ({ keys: accessKeys(ports).list() }),
      POST: async (context) =>
        accessKeys(ports).create(await readJson(context.req.raw, createKeyRequestSchema)),
    },
    '/v1/keys/:name': { DELETE: (_, accessKeyId) => deleteKey(ports, accessKeyId) },
    '/v1/usage': { GET: (context) => ports.usage(parseUsageQuery(context.req.query(), Date.now())) },
    '/v1/images/build': {
      POST: async (context) =>
        ndjson(context, await buildImage(ports, context.req.raw, imageOptions(options, context))),
    },
    '/v1/images/load': {
      POST: async (context) =>
        ndjson(context, await loadImage(ports, context.req.raw, imageOptions(options, context))),
    },
    '/v1/images/pull': {
      POST: async (context) => {
        const pull = await readJson(context.req.raw, pullRequestSchema)
        return ndjson(
          context,
          await pullImage(ports, context.req.raw, { ...imageOptions(options, context), pull }),
        )
      },
    },
    '/metrics': {
      GET: async (context) => {
        const { contentType, text } = await ports.metrics()
        return context.body(text, 200, { 'content-type': contentType })
      },
    },
    '/v1/functions/:name/logs': { GET: (context, name) => streamLogs(ports, options, context, name) },
  }
}

function imageOptions(options: ControlApiOptions, context: Context<Env>): ImageStreamOptions {
  const requestId = context.get('requestId')
  const onFault = options.onFault ?? reportToStderr
  return {
    requestId,
    onFault: (error) => onFault(error, requestId),
    ...(options.logHeartbeatMs !== undefined && { heartbeatMs: options.logHeartbeatMs }),
  }
}

function ndjson(context: Context<Env>, stream: ReadableStream<Uint8Array>): Response {
  return context.body(stream, 200, { 'content-type': 'application/x-ndjson' })
}

function actorOf(context: Context<Env>): string {
  return readActor(context.req.header('isola-actor'))
}

async function readChange(context: Context<Env>): Promise<ChangeRequest> {
  const by = actorOf(context)
  return { patch: await readJson(context.req.raw, patchRequestSchema), by }
}

async function missingBlobs(ports: ControlPorts, digests: readonly string[]): Promise<string[]> {
  const missing: string[] = []
  for (const digest of new Set(digests)) if (!(await ports.registry.hasBlob(digest))) missing.push(digest)
  return missing
}

async function putBlob(ports: ControlPorts, context: Context<Env>): Promise<Response> {
  const sha256 = context.req.param('sha256') ?? ''
  if (!/^[0-9a-f]{64}$/.test(sha256)) {
    throw new IsolaError(
      'invalid_argument',
      `blob name ${JSON.stringify(sha256.slice(0, 80))} is no digest: use the 64 lower-case hex digits of the SHA-256 of the bytes`,
    )
  }
  await ports.registry.putBlob(sha256, await readBody(context.req.raw, BUNDLE_LIMITS.modulesBytesMax))
  return context.body(null, 204)
}

async function streamLogs(
  ports: ControlPorts,
  options: ControlApiOptions,
  context: Context<Env>,
  functionName: string,
): Promise<Response> {
  findFunction(ports.registry.head, functionName)
  const text = context.req.query('lines') ?? String(CONTROL_LIMITS.logLinesPerReadDefault)
  const lines = /^\d{1,9}$/.test(text) ? Number(text) : -1
  if (lines < 0 || lines > CONTROL_LIMITS.logLinesPerReadMax) {
    throw new IsolaError(
      'invalid_argument',
      `lines is ${JSON.stringify(text.slice(0, 40))}: give a whole number from 0 to ${CONTROL_LIMITS.logLinesPerReadMax}`,
    )
  }
  const follow = context.req.query('follow')
  if (follow !== undefined && !['0', '1', 'true', 'false'].includes(follow)) {
    throw new IsolaError('invalid_argument', `follow is ${JSON.stringify(follow.slice(0, 40))}: give 1 or 0`)
  }
  const stream = await openLogStream(ports.logs, functionName, {
    lines,
    // Nobody reads, or cancels, the body of a HEAD.
    follow: context.req.method !== 'HEAD' && (follow === '1' || follow === 'true'),
    heartbeatMs: options.logHeartbeatMs ?? CONTROL_LIMITS.logHeartbeatMs,
  })
  return ndjson(context, stream)
}

/** Compares digests, so that neither the length nor the first wrong character can be timed. */
function tokenCheck(token: string): (authorization: string | undefined) => boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  const wanted = digest(`Bearer ${token}`)
  return (authorization) => timingSafeEqual(digest(authorization ?? ''), wanted)
}

function reportToStderr(error: unknown, requestId: string): void {
  console.error(`control API: request ${requestId} failed:`, error)
}
