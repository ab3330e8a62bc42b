import { IsolaError } from '../../sdk/model/errors.ts'
import { ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import type { Engine, ImageInspection, PullOptions } from './engine.ts'
import { labelFilter } from './engine-containers.ts'
import { engineUnavailable, unexpectedAnswer } from './engine-error.ts'
import type { EngineAnswer, EngineHttp } from './engine-http.ts'
import { readJsonLines } from './engine-lines.ts'

type ImageCalls = Pick<
  Engine,
  | 'inspectImage'
  | 'listImages'
  | 'listImagesNamed'
  | 'importImage'
  | 'loadImage'
  | 'pullImage'
  | 'tagImage'
  | 'removeImage'
>

export function imageCalls(http: EngineHttp): ImageCalls {
  const inspectImage = async (reference: string): Promise<ImageInspection | undefined> => {
    const answer = await http.call({ method: 'GET', path: `/images/${pathOf(reference)}/json` })
    if (answer.status === 200) return inspectionOf(answer.json as RawImage)
    // 400: no reference at all, so nothing has it.
    if (answer.status === 404 || answer.status === 400) return undefined
    throw unexpectedAnswer(`looking at image ${reference}`, answer)
  }
  const list = async (filters: string): Promise<readonly ImageInspection[]> => {
    const answer = await http.call({ method: 'GET', path: '/images/json', query: { filters } })
    if (answer.status !== 200) throw unexpectedAnswer('listing images', answer)
    const found: ImageInspection[] = []
    for (const { Id } of answer.json as readonly { readonly Id: string }[]) {
      // One may go between the two.
      const image = await inspectImage(Id)
      if (image !== undefined) found.push(image)
    }
    return found
  }
  return {
    inspectImage,
    listImages: (labels) => list(labelFilter(labels)),
    listImagesNamed: (pattern) => list(JSON.stringify({ reference: [pattern] })),
    async importImage({ tar, reference, changes }) {
      const { repository, tag } = splitReference(reference)
      const stream = await http.stream(
        {
          method: 'POST',
          path: '/images/create',
          query: { fromSrc: '-', repo: repository, tag, changes },
          body: tar,
        },
        (answer) => unexpectedAnswer(`importing ${reference}`, answer),
      )
      const { id } = await readProgress(http, stream, { onText: () => undefined, failed: unusable })
      return id ?? (await idOf(reference))
    },
    async loadImage(tar, onText) {
      const stream = await http.stream({ method: 'POST', path: '/images/load', body: tar }, (answer) =>
        unusable(answer.message),
      )
      const names: string[] = []
      await readProgress(http, stream, {
        failed: unusable,
        onText(text) {
          const name = /^Loaded image(?: ID)?: (\S+)/.exec(text)?.[1]
          if (name !== undefined) names.push(name)
          onText(text)
        },
      })
      const [name] = names
      if (name === undefined || names.length > 1) {
        throw unusable(`it has ${names.length} images in it and not one`)
      }
      return idOf(name)
    },
    pullImage: (options) => pull(http, options, idOf),
    async tagImage(id, reference) {
      const { repository, tag } = splitReference(reference)
      const answer = await http.call({
        method: 'POST',
        path: `/images/${pathOf(id)}/tag`,
        query: { repo: repository, tag },
      })
      if (answer.status === 404) throw notFound(id, answer)
      if (answer.status !== 201) throw unexpectedAnswer(`naming image ${id} "${reference}"`, answer)
    },
    async removeImage(reference) {
      const answer = await http.call({ method: 'DELETE', path: `/images/${pathOf(reference)}` })
      if (answer.status === 200 || answer.status === 404) return true
      if (answer.status === 409) return false
      throw unexpectedAnswer(`removing image ${reference}`, answer)
    },
  }

  async function idOf(reference: string): Promise<string> {
    const image = await inspectImage(reference)
    if (image !== undefined) return image.id
    throw new IsolaError('image_not_found', `the engine lost image ${reference} at once: try again`)
  }
}

async function pull(
  http: EngineHttp,
  options: PullOptions,
  idOf: (reference: string) => Promise<string>,
): Promise<string> {
  const { reference, username, password, onText, signal } = options
  const auth = JSON.stringify({ username, password, serveraddress: registryOf(reference) })
  const failed = (message: string, status = 0): IsolaError =>
    status === 404 || /not found|manifest unknown|pull access denied|no such host/i.test(message)
      ? new IsolaError('image_not_found', `image ${reference} cannot be pulled: ${message}`)
      : new IsolaError('image_unusable', `image ${reference} cannot be pulled: ${message}`)
  const stream = await http.stream(
    {
      method: 'POST',
      path: '/images/create',
      // Without a tag the engine would pull all of them.
      query: { fromImage: hasTag(reference) ? reference : `${reference}:latest` },
      timeoutMs: ENGINE_LIMITS.transferTimeoutMs,
      ...(signal !== undefined && { signal }),
      ...(username !== undefined && {
        headers: { 'x-registry-auth': urlBase64(auth) },
      }),
    },
    ({ message, status }) => failed(message, status),
  )
  try {
    await readProgress(http, stream, { onText, failed })
  } catch (cause) {
    signal?.throwIfAborted()
    throw cause
  }
  return idOf(reference)
}

/**
 * To the end of a stream in which the engine tells how far it is. Errors come as a line of it, after a status of
 * success. Returns the id that was said last.
 */
export async function readProgress(
  http: EngineHttp,
  stream: AsyncIterable<Buffer>,
  options: { onText(text: string): void; failed(message: string): Error; onId?(id: string): void },
): Promise<{ readonly id: string | undefined }> {
  let id: string | undefined
  const saidById = new Map<unknown, string>()
  try {
    for await (const line of readJsonLines(stream)) {
      const { error, stream: text, aux, status } = line
      if (typeof error === 'string') throw options.failed(error.slice(0, ENGINE_LIMITS.messageLengthMax))
      if (typeof text === 'string') options.onText(text)
      const auxId = typeof aux === 'object' && aux !== null && 'ID' in aux ? aux.ID : undefined
      const said = auxId ?? status
      if (typeof said === 'string' && /^sha256:[0-9a-f]{64}$/.test(said)) {
        id = said
        options.onId?.(said)
      } else if (typeof status === 'string' && saidById.get(line['id']) !== status) {
        // The same words come ten times a second while a layer is on its way.
        saidById.set(line['id'], status)
        options.onText(typeof line['id'] === 'string' ? `${line['id']}: ${status}\n` : `${status}\n`)
      }
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code !== 'ECONNRESET') throw cause
    throw engineUnavailable({ socketPath: http.socketPath, problem: 'it broke off in the middle', cause })
  }
  return { id }
}

function unusable(message: string): IsolaError {
  return new IsolaError(
    'image_unusable',
    `the engine does not take the image: ${message}. Send the tar of "docker save", or an OCI layout`,
  )
}

function notFound(id: string, { message }: EngineAnswer): IsolaError {
  return new IsolaError('image_not_found', `the engine has no image ${id} (${message})`)
}

/** With padding, which Node's own `base64url` leaves out: the engine then takes the credentials for none. */
function urlBase64(text: string): string {
  return Buffer.from(text).toString('base64').replaceAll('+', '-').replaceAll('/', '_')
}

/** A port in the registry's name is no tag. */
function hasTag(reference: string): boolean {
  return reference.includes('@') || reference.slice(reference.lastIndexOf('/') + 1).includes(':')
}

function splitReference(reference: string): { readonly repository: string; readonly tag: string } {
  if (!hasTag(reference)) return { repository: reference, tag: 'latest' }
  const colon = reference.lastIndexOf(':')
  return { repository: reference.slice(0, colon), tag: reference.slice(colon + 1) }
}

/** As the engine finds credentials: the first part, where it looks like a host. */
function registryOf(reference: string): string {
  const [first = ''] = reference.split('/')
  const isHost = reference.includes('/') && (/[.:]/.test(first) || first === 'localhost')
  return isHost ? first : 'https://index.docker.io/v1/'
}

function pathOf(reference: string): string {
  const parts = reference.split('/')
  // As a path these would lead to other calls of the engine's.
  if (parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new IsolaError(
      'invalid_argument',
      `${JSON.stringify(reference.slice(0, 200))} is no reference of an image: write "registry/name:tag" or "registry/name@sha256:…"`,
    )
  }
  return parts.map(encodeURIComponent).join('/')
}

interface RawImage {
  readonly Id: string
  readonly RepoTags: readonly string[] | null
  readonly Size: number
  readonly Architecture: string
  readonly Created: string
  readonly Metadata?: { readonly LastTagTime?: string }
  readonly Config: {
    readonly Labels: Readonly<Record<string, string>> | null
    readonly Entrypoint: readonly string[] | null
    readonly Cmd: readonly string[] | null
    readonly Env: readonly string[] | null
    readonly WorkingDir: string
    readonly User: string
    readonly Volumes?: Readonly<Record<string, unknown>> | null
  } | null
}

function inspectionOf(raw: RawImage): ImageInspection {
  const { Config: config } = raw
  // The year 1 where it never had a name.
  const taggedAtMs = Date.parse(raw.Metadata?.LastTagTime ?? '')
  return {
    id: raw.Id,
    references: raw.RepoTags ?? [],
    sizeBytes: raw.Size,
    architecture: raw.Architecture,
    createdAtMs: Date.parse(raw.Created) || 0,
    ...(taggedAtMs > 0 && { taggedAtMs }),
    labels: config?.Labels ?? {},
    entryPoint: config?.Entrypoint ?? [],
    command: config?.Cmd ?? [],
    environment: config?.Env ?? [],
    workingDirectory: config?.WorkingDir ?? '',
    user: config?.User ?? '',
    volumes: Object.keys(config?.Volumes ?? {}),
  }
}
