/**
 * Answers requests with static files: no instance is waked, and none takes up a slot. What is answered was decided by
 * `rules/site.ts`; here are the bytes. A file that is not on the disk, or is not what the manifest says, is refused by
 * name and never stands in for another.
 */
import { STATUS_CODES } from 'node:http'
import { ASSET_LIMITS } from '../../sdk/model/limits.ts'
import type { Snapshot } from '../../sdk/model/snapshot.ts'
import type { Refusal } from '../../runtime/pool/pool.ts'
import type { Exchange } from '../forward/exchange.ts'
import type { ResponseHead } from '../forward/response-head.ts'
import type { ServedVersion } from '../served-version.ts'
import { FileBodies } from './file-bodies.ts'
import { readFileRequest, type FileRequest } from './file-request.ts'
import { FileStream, openFile, type FileSource } from './file-stream.ts'
import { portionOf } from './rules/conditions.ts'
import type { Site, SiteAnswer, SiteFile } from './rules/site.ts'
import { Sites } from './sites.ts'

const EMPTY = Buffer.alloc(0)
const ALLOWED = 'GET, HEAD'

type FilesAnswer = Exclude<SiteAnswer, { type: 'code' }>

export class AssetServer {
  readonly #sites = new Sites()
  readonly #bodies = new FileBodies()
  /** Of whole files on their way: evicted or not, they are in memory until their clients have them. */
  #heldBytes = 0

  apply(snapshot: Snapshot): void {
    this.#sites.apply(snapshot)
  }

  has(versionId: string): boolean {
    return this.#sites.has(versionId)
  }

  /** For who names a version by itself: whether it is one of that function. */
  isOf(functionName: string, versionId: string): boolean {
    return this.#sites.isOf(functionName, versionId)
  }

  /**
   * False where the code is to answer. `again`: called when the files of the version are known, if they were not.
   * `filesOnly`: the function asks for its own.
   */
  serve(
    exchange: Exchange,
    served: ServedVersion,
    { filesOnly, again }: { readonly filesOnly: boolean; readonly again: () => void },
  ): boolean {
    const site = this.#sites.find(served.versionId)
    if (site === undefined) {
      void this.#whenKnown(exchange, served, again)
      return true
    }
    const { head } = exchange
    const request = readFileRequest(head.rawHeaders)
    // A WebSocket is no file, nor is a call of one of the code's entrypoints.
    const isForCode = exchange.wantsTunnel || (exchange.isInner && request.namesEntrypoint)
    if (isForCode && site.hasCode && !filesOnly) return false
    const { method, target } = head
    const { isNavigation } = request
    const answer = site.answer({ method, target, isNavigation, filesOnly })
    if (answer.type === 'code') return false
    const refusal = filesOnly ? undefined : exchange.admit(served)
    if (refusal !== undefined) exchange.refuse(refusal)
    else this.#answer(exchange, { site, served, request, answer })
    return true
  }

  async #whenKnown(exchange: Exchange, served: ServedVersion, again: () => void): Promise<void> {
    const wrong = await this.#sites.read(served.versionId)
    if (exchange.isOver) return
    if (wrong !== undefined && this.#sites.has(served.versionId)) exchange.refuse(unavailable(served, wrong))
    // Found, or gone with its version: then it is placed anew.
    else again()
  }

  #answer(
    exchange: Exchange,
    options: {
      readonly site: Site
      readonly served: ServedVersion
      readonly request: FileRequest
      readonly answer: FilesAnswer
    },
  ): void {
    const { site, served, request, answer } = options
    const edit = (headers: string[]): string[] =>
      site.headerRules?.apply(headers, { path: answer.path, hostname: exchange.head.host ?? '' }) ?? headers
    switch (answer.type) {
      case 'redirect':
        exchange.beginFile()
        exchange.onResponse(headOf(answer.status, edit(['location', answer.location])), EMPTY)
        return
      case 'not-found':
        exchange.beginFile()
        exchange.onResponse(headOf(404, edit([])), EMPTY)
        return
      case 'wrong-method':
        exchange.beginFile()
        exchange.onResponse(headOf(405, edit(['allow', ALLOWED])), EMPTY)
        return
      case 'file': {
        const { file, status } = answer
        const own = request.isAuthorized ? file.privateHeaders : file.headers
        this.#serveFile(exchange, { file, status, served, request, headers: edit([...own]) })
      }
    }
  }

  #serveFile(
    exchange: Exchange,
    answer: {
      readonly file: SiteFile
      readonly status: 200 | 404
      readonly served: ServedVersion
      readonly request: FileRequest
      readonly headers: string[]
    },
  ): void {
    const { file, status, served, request, headers } = answer
    const isHead = exchange.isHead
    // A page that says that there is nothing has neither parts nor a state that a client could have.
    const portion = status === 200 ? portionOf(file, request, { isHead }) : WHOLE
    if (portion.type === 'not-modified') {
      exchange.beginFile()
      exchange.onResponse(headOf(304, withoutContent(headers)), EMPTY)
      return
    }
    if (portion.type === 'unsatisfiable') {
      exchange.beginFile()
      exchange.onResponse(
        headOf(416, ['content-range', `bytes */${file.sizeBytes}`, 'etag', file.etag]),
        EMPTY,
      )
      return
    }
    const isWhole = portion.type === 'whole'
    const start = isWhole ? 0 : portion.start
    const end = isWhole ? file.sizeBytes : portion.end
    if (!isWhole) headers.push('content-range', `bytes ${start}-${end - 1}/${file.sizeBytes}`)
    const head = headOf(isWhole ? status : 206, headers, end - start)
    if (isHead) {
      exchange.beginFile()
      exchange.onResponse(head, EMPTY)
      return
    }
    const respond = (bytes: Buffer): void => {
      exchange.beginFile(this.#hold(bytes.length))
      exchange.onResponse(head, isWhole ? bytes : bytes.subarray(start, end))
    }
    const kept = this.#mayHold(file.sizeBytes) ? this.#bodies.find(file.sha256) : undefined
    if (kept !== undefined) respond(kept)
    else void this.#fetch(exchange, { file, served, head, start, end, respond })
  }

  /** Clients that read slowly, each another file, must not fill the memory. */
  #mayHold(bytes: number): boolean {
    return bytes <= ASSET_LIMITS.pieceBytes || this.#heldBytes + bytes <= ASSET_LIMITS.heldBytesMax
  }

  #hold(bytes: number): FileSource | undefined {
    if (bytes <= ASSET_LIMITS.pieceBytes) return undefined
    this.#heldBytes += bytes
    return { pause() {}, resume() {}, abandon() {}, onFinish: () => (this.#heldBytes -= bytes) }
  }

  async #fetch(
    exchange: Exchange,
    wanted: {
      readonly file: SiteFile
      readonly served: ServedVersion
      readonly head: ResponseHead
      readonly start: number
      readonly end: number
      readonly respond: (bytes: Buffer) => void
    },
  ): Promise<void> {
    const { file, served, head, start, end, respond } = wanted
    const path = this.#sites.filePath(file.sha256)
    try {
      if (file.sizeBytes <= ASSET_LIMITS.cachedFileBytesMax && this.#mayHold(file.sizeBytes)) {
        const bytes = await this.#bodies.read(path, file.sha256)
        if (!exchange.isOver) respond(bytes)
        return
      }
      const handle = await openFile(path, file.sizeBytes)
      const stream = new FileStream(handle, {
        start,
        end,
        onPiece: (piece) => exchange.onBody(piece),
        onEnd: () => exchange.onEnd(),
        onLost: (why) => exchange.refuse(unavailable(served, `${file.sha256}: ${why}`)),
      })
      if (exchange.isOver) {
        stream.abandon()
        return
      }
      exchange.beginFile(stream)
      exchange.onHead(head, 0)
      stream.begin()
    } catch (error) {
      if (!exchange.isOver)
        exchange.refuse(unavailable(served, `${file.sha256}: ${(error as Error).message}`))
    }
  }
}

const WHOLE = { type: 'whole' } as const

function headOf(status: number, headers: string[], contentLength?: number): ResponseHead {
  return {
    status,
    reason: STATUS_CODES[status] ?? '',
    headers,
    contentLength,
    chunked: false,
    keepAlive: true,
    error: undefined,
    upgrade: undefined,
  }
}

/** Of a 304: what would only describe a body. */
function withoutContent(headers: readonly string[]): string[] {
  return headers.flatMap((name, index) =>
    index % 2 === 1 || name === 'content-type' ? [] : [name, headers[index + 1]!],
  )
}

function unavailable({ functionName, versionId }: ServedVersion, why: string): Refusal {
  return {
    code: 'asset_unavailable',
    message: `a static file of function "${functionName}", version ${versionId}, cannot be served by this node yet: ${why}`,
  }
}
