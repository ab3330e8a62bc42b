/**
 * The upload of static files: a list is announced, what is missing of it is sent, and a token stands for all of it in the
 * upload of the version that follows. Files are sent with the session's own token instead of the node's.
 */
import { readBody } from '../../../runtime/control/request-body.ts'
import { isIsolaError } from '../../../sdk/model/errors.ts'
import { ASSET_UPLOAD_LIMITS } from '../../../sdk/model/limits.ts'
import { CloudflareError } from '../api-error.ts'
import { drainBody } from '../drain-body.ts'
import { param, type ApiCall, type Endpoints } from '../endpoint.ts'
import { Enveloped } from '../envelope.ts'
import { parseScriptName } from '../script-name.ts'
import { assetBuckets, readAssetList } from './asset-list.ts'
import { assetSessions, isAllStored, storeManifest, type AssetSession } from './asset-session.ts'
import { readAssetToken, writeAssetToken, type AssetOwner, type AssetToken } from './asset-token.ts'
import { readFormParts } from './form-parts.ts'
import { receiveFile, type ReceivedFile } from './receive-file.ts'

export const assetEndpoints: Endpoints = {
  'POST /accounts/:account/workers/scripts/:script/assets-upload-session': (call) =>
    beginSession(call, { account: param(call, 'account'), script: parseScriptName(param(call, 'script')) }),
  'POST /accounts/:account/workers/dispatch/namespaces/:namespace/scripts/:script/assets-upload-session': (
    call,
  ) =>
    beginSession(call, {
      account: param(call, 'account'),
      script: param(call, 'script'),
      namespace: param(call, 'namespace'),
    }),
  'POST /accounts/:account/workers/assets/upload': { auth: 'own', handle: uploadMany },
  'POST /accounts/:account/workers/assets/upload/:hash': { auth: 'own', handle: uploadOne },
}

async function beginSession({ ports, request }: ApiCall, owner: AssetOwner): Promise<unknown> {
  const { registry } = ports
  const list = readAssetList(await readBody(request, ASSET_UPLOAD_LIMITS.manifestBytesMax))
  const session = await assetSessions(registry).begin(list)
  const completion = session.pending.length === 0 ? await completionToken(ports, owner, session) : undefined
  if (completion !== undefined) return { jwt: completion, buckets: [] }
  const token: AssetToken = { kind: 'session', owner, manifest: session.listed }
  return {
    jwt: writeAssetToken(token, { key: ports.token, nowMs: Date.now() }),
    buckets: assetBuckets(session.pending, list),
  }
}

/** Many files in one form, each in base64. */
async function uploadMany(call: ApiCall): Promise<Enveloped> {
  const { request, query } = call
  return takeFiles(call, async (body, receive) => {
    if (query.get('base64') !== 'true') {
      throw new CloudflareError(
        'malformed',
        'files of a form are sent in base64: add ?base64=true to the address',
      )
    }
    for await (const part of readFormParts(request.headers.get('content-type') ?? '', body)) {
      await receive({ hash: part.name, contentType: part.contentType, isBase64: true, body: part.body })
    }
  })
}

/** One file as it is. */
async function uploadOne(call: ApiCall): Promise<Enveloped> {
  return takeFiles(call, (body, receive) => {
    const contentType = call.request.headers.get('content-type') ?? undefined
    return receive({ hash: param(call, 'hash'), contentType, isBase64: false, body })
  })
}

async function takeFiles(
  call: ApiCall,
  take: (body: AsyncIterable<Uint8Array>, receive: (file: ReceivedFile) => Promise<void>) => Promise<void>,
): Promise<Enveloped> {
  const { ports, request } = call
  const { registry } = ports
  const sessions = assetSessions(registry)
  const source = (request.body ?? new Blob([]).stream())[Symbol.asyncIterator]()
  let token: AssetToken
  let session: AssetSession
  try {
    token = checkToken(call)
    session = await resume(sessions, token)
    await take(boundedBody(source), (file) => receiveFile({ session, registry, held: sessions.held }, file))
  } finally {
    await drainBody(source)
  }
  const jwt = (await isAllStored(registry, session))
    ? await completionToken(ports, token.owner, session)
    : undefined
  return new Enveloped(jwt === undefined ? {} : { jwt }, { status: jwt === undefined ? 202 : 201 })
}

async function completionToken(
  ports: ApiCall['ports'],
  owner: AssetOwner,
  session: AssetSession,
): Promise<string | undefined> {
  const manifest = await storeManifest(ports.registry, session)
  if (manifest === undefined) return undefined
  const token: AssetToken = { kind: 'completion', owner, manifest }
  return writeAssetToken(token, { key: ports.token, nowMs: Date.now() })
}

/** Throws `authentication`, and `malformed` with a status that says that the token is not the one for this. */
function checkToken({ ports, request, params }: ApiCall): AssetToken {
  const [, text = ''] = /^Bearer +(\S+) *$/i.exec(request.headers.get('authorization') ?? '') ?? []
  const reading = readAssetToken(text, { key: ports.token, nowMs: Date.now() })
  if ('problem' in reading) {
    if (reading.problem === 'forged') {
      throw new CloudflareError(
        'authentication',
        'Authentication error: static files are uploaded with the "jwt" that this node gave for their list, and this is not one',
      )
    }
    throw new CloudflareError(
      'malformed',
      `the upload of static files took longer than the ${ASSET_UPLOAD_LIMITS.sessionMs / 60_000} minutes it may take: deploy again, what has arrived is kept`,
      { status: 401 },
    )
  }
  const { token } = reading
  if (token.kind === 'session' && token.owner.account === params['account']) return token
  throw new CloudflareError(
    'malformed',
    'the token of this upload stands for files that are all there already: it goes into the metadata of the version',
    { status: 403 },
  )
}

async function resume(
  sessions: ReturnType<typeof assetSessions>,
  { manifest }: AssetToken,
): Promise<AssetSession> {
  try {
    return await sessions.resume(manifest)
  } catch (error) {
    if (!isIsolaError(error) || error.code !== 'blob_missing') throw error
    throw new CloudflareError('malformed', 'the list of this upload is not there any more: deploy again', {
      cause: error,
      status: 401,
    })
  }
}

/** Without a `return`: what a reader leaves is still read, for the client to hear the answer. */
function boundedBody(source: AsyncIterator<Uint8Array>): AsyncIterable<Uint8Array> {
  let totalBytes = 0
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    const result = await source.next().catch((error: unknown) => {
      throw new CloudflareError('malformed', 'the upload ended early: send it again', { cause: error })
    })
    if (result.done === true) return result
    totalBytes += result.value.byteLength
    if (totalBytes <= ASSET_UPLOAD_LIMITS.bulkRequestBytesMax) return result
    throw new CloudflareError(
      'tooLarge',
      `the request has more than the ${ASSET_UPLOAD_LIMITS.bulkRequestBytesMax} bytes it may have: send the groups of files one by one`,
    )
  }
  return { [Symbol.asyncIterator]: () => ({ next }) }
}
