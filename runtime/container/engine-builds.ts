/**
 * Building from a Dockerfile, by the engine's classic builder: it needs nothing beside the engine. The layers it leaves
 * behind are its cache, but nothing tells whose they are. So the last layer of each stage gets a name of isola's: then
 * the engine's own pruning leaves it alone, ours finds it, and what others build on the same engine is never touched.
 */
import { IsolaError } from '../../sdk/model/errors.ts'
import { ENGINE_LIMITS } from '../../sdk/model/limits.ts'
import type { BuildOptions, Engine } from './engine.ts'
import { unexpectedAnswer } from './engine-error.ts'
import type { EngineHttp } from './engine-http.ts'
import { readProgress } from './engine-images.ts'

const BUILD_REPOSITORY = 'isola-build'

type ImagePart = Pick<Engine, 'inspectImage' | 'listImagesNamed' | 'tagImage' | 'removeImage'>

export function buildCalls(http: EngineHttp, images: ImagePart): Pick<Engine, 'buildImage' | 'pruneBuilds'> {
  return {
    buildImage: (options) => build(http, images, options),
    async pruneBuilds({ keepBytes }) {
      const layers = await images.listImagesNamed(BUILD_REPOSITORY)
      const newestFirst = layers.toSorted((a, b) => (b.taggedAtMs ?? 0) - (a.taggedAtMs ?? 0))
      const counted = new Set<string>()
      let totalBytes = 0
      let freedBytes = 0
      for (const { id, references } of newestFirst) {
        let ownBytes = 0
        for (const layer of await layersOf(http, id)) {
          if (counted.has(layer.id)) continue
          counted.add(layer.id)
          ownBytes += layer.sizeBytes
        }
        if (totalBytes + ownBytes <= keepBytes) {
          totalBytes += ownBytes
          continue
        }
        const names = references.filter((reference) => reference.startsWith(`${BUILD_REPOSITORY}:`))
        for (const name of names) if (await images.removeImage(name)) freedBytes += ownBytes
      }
      return freedBytes
    },
  }
}

async function build(http: EngineHttp, images: ImagePart, options: BuildOptions): Promise<string> {
  const { tar, dockerfile = 'Dockerfile', labels, timeoutMs, onText } = options
  const layers = createLayerList()
  const timeout = AbortSignal.timeout(timeoutMs)
  const signal = options.signal === undefined ? timeout : AbortSignal.any([timeout, options.signal])
  let step = ''
  const memory = String(ENGINE_LIMITS.buildMemoryMib * 1024 * 1024)
  try {
    const stream = await http.stream(
      {
        method: 'POST',
        path: '/build',
        query: {
          version: '1',
          dockerfile,
          labels: JSON.stringify(labels),
          rm: '1',
          forcerm: '1',
          memory,
          memswap: memory,
          // Beside functions that are asked for, a build gets what they leave.
          cpushares: '128',
        },
        body: tar,
        timeoutMs,
        signal,
      },
      // What the builder refuses before its first step: the Dockerfile, or a context that is no tar.
      (answer) => failed(answer.message),
    )
    const { id } = await readProgress(http, stream, {
      failed: (message) => failed(message, step),
      onId: layers.addStage,
      onText(text) {
        layers.addText(text)
        if (/^Step \d+\/\d+ : /.test(text)) step = text.trim()
        onText(text)
      },
    })
    if (id === undefined) throw failed('it ended without an image')
    return id
  } catch (cause) {
    options.signal?.throwIfAborted()
    if (!timeout.aborted) throw cause
    throw new IsolaError(
      'build_failed',
      `the build did not end within ${timeoutMs / 1000} s and was stopped: make its steps shorter, or build the image elsewhere and send it`,
      { cause },
    )
  } finally {
    await keepLayers(images, layers.lastOfStages())
  }
}

/** What was done when it failed is not always in the engine's words. */
function failed(message: string, step = ''): IsolaError {
  const place = step === '' ? '' : ` (${step.slice(0, STEP_LENGTH_MAX)})`
  return new IsolaError('build_failed', `the image cannot be built${place}: ${message}`)
}

const STEP_LENGTH_MAX = 200

/** The builder says each layer's id in its text, and of each stage that is done the whole id. */
function createLayerList(): {
  addStage(this: void, id: string): void
  addText(this: void, text: string): void
  lastOfStages(this: void): readonly string[]
} {
  const stages: string[] = []
  let last: string | undefined
  return {
    addStage(id) {
      stages.push(id)
      last = undefined
    },
    addText(text) {
      const id = /^ ---> ([0-9a-f]{12})\n$/.exec(text)?.[1]
      if (id !== undefined) last = id
    },
    lastOfStages() {
      const isKnown = last === undefined || stages.some((id) => id.startsWith(`sha256:${last}`))
      // The last stage of a build that succeeded is the image itself, which its function keeps.
      return isKnown ? stages.slice(0, -1) : [...stages, last ?? '']
    },
  }
}

/** What has a name already is no layer of a build's. Losing some of the cache is no reason to fail a build. */
async function keepLayers(images: ImagePart, ids: readonly string[]): Promise<void> {
  for (const id of ids) {
    try {
      const image = await images.inspectImage(id)
      const others = image?.references.filter((reference) => !reference.startsWith(`${BUILD_REPOSITORY}:`))
      if (image === undefined || others?.length !== 0) continue
      await images.tagImage(image.id, `${BUILD_REPOSITORY}:${image.id.slice(7, 39)}`)
    } catch {
      return
    }
  }
}

interface Layer {
  readonly id: string
  readonly sizeBytes: number
}

interface RawLayer {
  readonly Id: string
  readonly Size: number
  readonly Tags: readonly string[] | null
}

/** From the newest down to what the build began with: that has a name of its own, or came from elsewhere without an id. */
async function layersOf(http: EngineHttp, id: string): Promise<readonly Layer[]> {
  const answer = await http.call({ method: 'GET', path: `/images/${id}/history` })
  if (answer.status === 404) return []
  if (answer.status !== 200) throw unexpectedAnswer(`reading the layers of ${id}`, answer)
  const layers = answer.json as readonly RawLayer[]
  const isForeign = ({ Id, Tags }: RawLayer): boolean =>
    !Id.startsWith('sha256:') || (Tags ?? []).some((tag) => !tag.startsWith(`${BUILD_REPOSITORY}:`))
  const end = layers.findIndex(isForeign)
  return layers
    .slice(0, end === -1 ? layers.length : end)
    .map((layer) => ({ id: layer.Id, sizeBytes: layer.Size }))
}
