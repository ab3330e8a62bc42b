/**
 * A multipart body part by part, each streamed: what is held of it is one chunk. Parts are taken in their order, and each is
 * read to its end before the next. A parser of its own, because the one for modules drops the parameters of a part's
 * content type, and a file is served with them (RFC 2046 §5.1, RFC 7578).
 */
import { ASSET_UPLOAD_LIMITS } from '../../../sdk/model/limits.ts'
import { CloudflareError } from '../api-error.ts'

export interface FormPart {
  readonly name: string
  /** With its parameters. */
  readonly contentType: string | undefined
  readonly body: AsyncIterable<Buffer>
}

/** Throws `malformed` where it is no multipart body, or ends early. */
export async function* readFormParts(
  contentType: string,
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<FormPart, void, void> {
  const scanner = new Scanner(source[Symbol.asyncIterator]())
  const delimiter = Buffer.from(`\r\n--${boundaryOf(contentType)}`)
  // The first delimiter may stand at the very start; what is before it means nothing.
  for await (const _ of scanner.until(delimiter));
  while (await isNextPart(scanner)) {
    const head = await scanner.head()
    let isRead = false
    const body = async function* (): AsyncGenerator<Buffer, void, void> {
      yield* scanner.until(delimiter)
      isRead = true
    }
    const stream = body()
    yield { ...readHead(head), body: stream }
    // One that was left in the middle.
    if (!isRead) for await (const _ of scanner.until(delimiter));
  }
}

class Scanner {
  readonly #source: AsyncIterator<Uint8Array>
  #held: Buffer = Buffer.from('\r\n')

  constructor(source: AsyncIterator<Uint8Array>) {
    this.#source = source
  }

  /** All before the delimiter, which is consumed. */
  async *until(delimiter: Buffer): AsyncGenerator<Buffer, void, void> {
    for (;;) {
      const at = this.#held.indexOf(delimiter)
      if (at !== -1) {
        const before = this.#held.subarray(0, at)
        this.#held = this.#held.subarray(at + delimiter.length)
        if (before.length > 0) yield before
        return
      }
      // The end may be the delimiter's beginning, but only from a CR on.
      const first = this.#held.indexOf('\r', Math.max(0, this.#held.length - delimiter.length + 1))
      const sure = first === -1 ? this.#held.length : first
      if (sure > 0) {
        const before = this.#held.subarray(0, sure)
        this.#held = this.#held.subarray(sure)
        yield before
      }
      await this.#more()
    }
  }

  async take(length: number): Promise<string> {
    while (this.#held.length < length) await this.#more()
    const text = this.#held.toString('latin1', 0, length)
    this.#held = this.#held.subarray(length)
    return text
  }

  /** The lines of a part's head. */
  async head(): Promise<string> {
    for (;;) {
      const end = this.#held.indexOf('\r\n\r\n')
      if (end !== -1 && end <= ASSET_UPLOAD_LIMITS.partHeadBytesMax) {
        const text = this.#held.toString('utf8', 0, end)
        this.#held = this.#held.subarray(end + 4)
        return text
      }
      if (this.#held.length > ASSET_UPLOAD_LIMITS.partHeadBytesMax) {
        throw malformed(
          `the head of a part has more than the ${ASSET_UPLOAD_LIMITS.partHeadBytesMax} bytes it may have`,
        )
      }
      await this.#more()
    }
  }

  async #more(): Promise<void> {
    const { done, value } = await this.#source.next()
    if (done === true) throw malformed('the form ended early: send it again')
    this.#held = this.#held.length === 0 ? viewOf(value) : Buffer.concat([this.#held, value])
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength)
}

/** After a delimiter: the next part, or the end. */
async function isNextPart(scanner: Scanner): Promise<boolean> {
  const after = await scanner.take(2)
  if (after === '--') return false
  if (after === '\r\n') return true
  throw malformed('a boundary of the form is followed by what is neither a part nor the end: send it again')
}

function boundaryOf(contentType: string): string {
  const [, quoted, plain] =
    /^multipart\/form-data *;(?:.*;)? *boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType) ?? []
  const boundary = quoted ?? plain
  if (boundary !== undefined) return boundary
  throw malformed(
    `the body is ${JSON.stringify(contentType.slice(0, 100) || 'of no content type')} and not a form: send "multipart/form-data" with its boundary`,
  )
}

function readHead(head: string): Omit<FormPart, 'body'> {
  const fields = new Map(
    head.split('\r\n').map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim()] as const
    }),
  )
  const [, name] = /;\s*name="([^"]*)"/i.exec(fields.get('content-disposition') ?? '') ?? []
  if (name === undefined) throw malformed('a part of the form has no name: name each by the hash of its file')
  return { name, contentType: fields.get('content-type') }
}

function malformed(message: string): CloudflareError {
  return new CloudflareError('malformed', message)
}
