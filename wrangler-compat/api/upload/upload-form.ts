/**
 * A multipart body as it comes. Each file goes to the blob store when it is complete and before more is read, so what is
 * held is one module and never the whole; what nobody names in the end is collected like any other blob. The order of the
 * parts means nothing. A refused body is still read to a bound: a client that is reset while it sends would see a broken
 * connection instead of the answer.
 */
import busboy from 'busboy'
import { createHash } from 'node:crypto'
import { BUNDLE_LIMITS, CONTROL_LIMITS, WRANGLER_API_LIMITS } from '../../../sdk/model/limits.ts'
import { CloudflareError } from '../api-error.ts'
import { drainBody } from '../drain-body.ts'

export interface UploadForm {
  /** Of the part that was asked for by name. `undefined` where it is not there. */
  readonly json: string | undefined
  readonly files: readonly UploadedFile[]
}

export interface UploadedFile {
  readonly name: string
  /** Lower case, without parameters. */
  readonly mimeType: string
  readonly sha256: string
  readonly sizeBytes: number
}

export interface UploadFormOptions {
  /** The part that is JSON; it need not be the first, and may come with or without a file name. */
  readonly jsonPart: string
  readonly store: (sha256: string, body: Uint8Array) => Promise<void>
}

/** Throws `malformed`, `tooLarge`. */
export async function readUploadForm(request: Request, options: UploadFormOptions): Promise<UploadForm> {
  const reading = new FormReading(options)
  const parser = openParser(request, reading)
  const source = (request.body ?? new Blob([]).stream())[Symbol.asyncIterator]()
  try {
    for (;;) {
      const { done, value } = await readChunk(source)
      if (done === true) break
      await write(parser, value)
      await reading.settle()
    }
    await end(parser)
    await reading.settle()
  } catch (error) {
    parser.destroy()
    await drainBody(source)
    throw error
  }
  return { json: reading.json, files: reading.files }
}

class FormReading {
  readonly files: UploadedFile[] = []
  json: string | undefined
  readonly #options: UploadFormOptions
  readonly #names = new Set<string>()
  #totalBytes = 0
  #storing: Promise<void>[] = []
  #problem: CloudflareError | undefined

  constructor(options: UploadFormOptions) {
    this.#options = options
  }

  /** Until what is complete is stored. Throws what was found to be wrong. */
  async settle(): Promise<void> {
    const storing = this.#storing
    this.#storing = []
    await Promise.all(storing)
    if (this.#problem !== undefined) throw this.#problem
  }

  field(name: string, value: string, isTruncated: boolean): void {
    if (!this.#take(name)) return
    if (name !== this.#options.jsonPart) {
      return this.refuse(
        malformed(`the part ${show(name)} has no file name: send modules as files, and JSON as "metadata"`),
      )
    }
    if (isTruncated) return this.refuse(jsonTooLarge(name))
    this.json = value
  }

  file(name: string, stream: NodeJS.ReadableStream, mimeType: string): void {
    const isJson = name === this.#options.jsonPart
    this.#take(name)
    const chunks: Buffer[] = []
    let sizeBytes = 0
    stream.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.byteLength
      this.#totalBytes += chunk.byteLength
      if (isJson && sizeBytes > CONTROL_LIMITS.jsonBytesMax) this.refuse(jsonTooLarge(name))
      if (this.#totalBytes > BUNDLE_LIMITS.modulesBytesMax) this.refuse(filesTooLarge())
      if (this.#problem === undefined) chunks.push(chunk)
      else chunks.length = 0
    })
    // The parser says it, too, and is listened to.
    stream.on('error', () => undefined)
    stream.on('end', () => {
      if (this.#problem !== undefined) return
      const body = Buffer.concat(chunks, sizeBytes)
      if (isJson) this.json = body.toString('utf8')
      else this.#store(name, body, mimeType)
    })
  }

  refuse(problem: CloudflareError): void {
    this.#problem ??= problem
  }

  #take(name: string): boolean {
    if (name === '') this.refuse(malformed('a part has no name: name each module as it is imported'))
    if (this.#names.has(name))
      this.refuse(malformed(`the part ${show(name)} is there twice: send each name once`))
    this.#names.add(name)
    return this.#problem === undefined
  }

  #store(name: string, body: Uint8Array, mimeType: string): void {
    const sha256 = createHash('sha256').update(body).digest('hex')
    this.files.push({ name, mimeType, sha256, sizeBytes: body.byteLength })
    this.#storing.push(this.#options.store(sha256, body))
  }
}

function openParser(request: Request, reading: FormReading): busboy.Busboy {
  const contentType = request.headers.get('content-type') ?? ''
  let parser: busboy.Busboy
  try {
    parser = busboy({
      headers: { 'content-type': contentType },
      preservePath: true,
      defParamCharset: 'utf8',
      limits: {
        fieldNameSize: BUNDLE_LIMITS.moduleNameBytesMax,
        fieldSize: CONTROL_LIMITS.jsonBytesMax,
        parts: BUNDLE_LIMITS.modulesCountMax + 1,
        headerPairs: WRANGLER_API_LIMITS.partHeadersMax,
      },
    })
  } catch (error) {
    throw new CloudflareError(
      'malformed',
      `the body is ${show(contentType || 'of no content type')} and not a form: send "multipart/form-data" with its boundary (${(error as Error).message})`,
      { cause: error },
    )
  }
  parser.on('field', (name, value, { valueTruncated }) =>
    reading.field(partName(name), value, valueTruncated),
  )
  parser.on('file', (name, stream, { mimeType }) => reading.file(partName(name), stream, mimeType))
  parser.on('partsLimit', () => {
    const { modulesCountMax } = BUNDLE_LIMITS
    reading.refuse(
      new CloudflareError('tooLarge', `the upload has more than ${modulesCountMax} modules: send fewer`),
    )
  })
  // Whoever writes hears it: a listener keeps it from being thrown into the air.
  parser.on('error', () => undefined)
  return parser
}

/** Clients write a quote so, and nothing else but line breaks, which no name has. */
function partName(name: string | undefined): string {
  return (name ?? '').replaceAll('%22', '"')
}

async function readChunk(source: AsyncIterator<Uint8Array>): Promise<IteratorResult<Uint8Array>> {
  try {
    return await source.next()
  } catch (error) {
    throw new CloudflareError(
      'malformed',
      'the upload ended early, and nothing of it is kept: send it again',
      {
        cause: error,
      },
    )
  }
}

function write(parser: busboy.Busboy, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    parser.write(chunk, (error) => (error ? reject(brokenForm(error)) : resolve()))
  })
}

function end(parser: busboy.Busboy): Promise<void> {
  return new Promise((resolve, reject) => {
    parser.once('error', (error) => reject(brokenForm(error as Error)))
    parser.once('close', () => resolve())
    parser.end()
  })
}

function brokenForm(cause: Error): CloudflareError {
  return malformed(`the multipart body is broken (${cause.message}): send it again`, cause)
}

function malformed(message: string, cause?: Error): CloudflareError {
  return new CloudflareError('malformed', message, cause && { cause })
}

function jsonTooLarge(name: string): CloudflareError {
  return new CloudflareError(
    'tooLarge',
    `the part ${show(name)} has more than the ${CONTROL_LIMITS.jsonBytesMax} bytes it may have: send less`,
  )
}

function filesTooLarge(): CloudflareError {
  return new CloudflareError(
    'tooLarge',
    `the modules have more than the ${BUNDLE_LIMITS.modulesBytesMax} bytes that a version may have: leave out what it does not need, or serve large files as assets`,
  )
}

function show(text: string): string {
  return JSON.stringify(text.slice(0, 100))
}
