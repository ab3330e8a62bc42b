/**
 * The images that isola itself makes, from what this machine has: no registry is asked. Each is named by the digest of
 * its files, so that it is made once, by whichever node of the machine needs it first, and again when something in it
 * has changed. `latest` is the newest, for a Dockerfile's FROM. An operator may name a base image in place of one.
 */
import { createHash } from 'node:crypto'
import { ENGINE_LIMITS, CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import type { ContainerRuntime } from '../../sdk/model/function.ts'
import { workerdBinaryPath } from '../machine/workerd-binary.ts'
import {
  addClient,
  addLibraries,
  addSystem,
  CERTIFICATES_PATH,
  CLIENT_DIRECTORY,
  createBaseFiles,
  FUNCTION_USER,
} from './base-files.ts'
import type { Engine, ImageInspection } from './engine.ts'
import { createImageFiles, type ImageFiles } from './image-files.ts'
import { pythonFiles } from './python-files.ts'

export interface RuntimeImages {
  /** Has isola's client at `/opt/isola` and is started by its own entry point. Throws `engine_unavailable`, `unsupported_machine`. */
  runtimeImage(runtime: ContainerRuntime): Promise<{ readonly imageId: string }>
  /** Has `workerd` in its path. */
  sandboxImage(): Promise<{ readonly imageId: string }>
  /** Removes those that something newer has replaced and no container uses. */
  collect(): Promise<void>
}

export interface RuntimeImagesOptions {
  readonly engine: Engine
  /** References, pulled where the engine does not have them. */
  readonly baseImages?: Partial<Record<ContainerRuntime, string>>
  /** @default ENGINE_LIMITS.unusedImageKeptMs */
  readonly unusedKeptMs?: number
}

interface Recipe {
  readonly repository: string
  readonly kind: 'runtime' | 'sandbox'
  readonly entryPoint: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  files(): Promise<ImageFiles>
}

const ENVIRONMENT = {
  PATH: '/usr/local/bin:/usr/bin:/bin',
  LANG: 'C.UTF-8',
  HOME: '/tmp',
  SSL_CERT_FILE: CERTIFICATES_PATH,
} as const

const RUNTIMES: Readonly<Record<ContainerRuntime, Recipe>> = {
  nodejs24: {
    repository: 'isola-runtime-nodejs24',
    kind: 'runtime',
    entryPoint: ['node', `${CLIENT_DIRECTORY}/node/client.js`],
    environment: ENVIRONMENT,
    files: () => programFiles(process.execPath, '/usr/local/bin/node'),
  },
  python3: {
    repository: 'isola-runtime-python3',
    kind: 'runtime',
    entryPoint: ['python3', `${CLIENT_DIRECTORY}/python/client.py`],
    environment: { ...ENVIRONMENT, PYTHONDONTWRITEBYTECODE: '1' },
    files: pythonFiles,
  },
}

const SANDBOX: Recipe = {
  repository: 'isola-sandbox',
  kind: 'sandbox',
  entryPoint: ['workerd'],
  environment: { PATH: ENVIRONMENT.PATH },
  files: async () => {
    const files = createBaseFiles()
    const binary = workerdBinaryPath()
    files.addFile(binary, '/usr/local/bin/workerd')
    await addLibraries(files, [binary])
    return files
  },
}

export function createRuntimeImages(options: RuntimeImagesOptions): RuntimeImages {
  const { engine, baseImages = {} } = options
  const madeByRepository = new Map<string, Promise<Made>>()
  const used = new Set<string>()
  const imageOf = async (recipe: Recipe, base?: string): Promise<{ readonly imageId: string }> => {
    // What is in it is read once in the life of a process; whether the engine still has it, each time.
    const before = madeByRepository.get(recipe.repository)
    if (before !== undefined) {
      const { imageId } = await before
      if ((await engine.inspectImage(imageId)) !== undefined) return { imageId }
      if (madeByRepository.get(recipe.repository) === before) madeByRepository.delete(recipe.repository)
    }
    const making = madeByRepository.get(recipe.repository) ?? ensure(engine, recipe, base)
    madeByRepository.set(recipe.repository, making)
    try {
      const made = await making
      used.add(made.reference)
      return { imageId: made.imageId }
    } catch (error) {
      if (madeByRepository.get(recipe.repository) === making) madeByRepository.delete(recipe.repository)
      throw error
    }
  }
  // What is built from one has its label, but a name of its own. Two nodes that made the same leave one without a name.
  const removeUnlessUsed = async ({ id, references }: ImageInspection): Promise<void> => {
    const repositories = [...Object.values(RUNTIMES), SANDBOX].map(({ repository }) => `${repository}:`)
    const isOurs = (name: string): boolean => repositories.some((each) => name.startsWith(each))
    const isUsed = (name: string): boolean => used.has(name) || name.endsWith(':latest')
    if (!references.every(isOurs) || references.some(isUsed)) return
    for (const name of references.length === 0 ? [id] : references) await engine.removeImage(name)
  }
  return {
    runtimeImage: (runtime) => imageOf(RUNTIMES[runtime], baseImages[runtime]),
    sandboxImage: () => imageOf(SANDBOX),
    async collect() {
      const beforeMs = Date.now() - (options.unusedKeptMs ?? ENGINE_LIMITS.unusedImageKeptMs)
      for (const kind of ['runtime', 'sandbox'] as const) {
        for (const image of await engine.listImages({ 'isola.image': kind })) {
          if ((image.taggedAtMs ?? image.createdAtMs) <= beforeMs) await removeUnlessUsed(image)
        }
      }
    },
  }
}

interface Made {
  readonly imageId: string
  readonly reference: string
}

async function ensure(engine: Engine, recipe: Recipe, base: string | undefined): Promise<Made> {
  if (base !== undefined) return await derive(engine, recipe, base)
  const files = await recipe.files()
  const instructions = instructionsOf(recipe)
  const reference = `${recipe.repository}:${await digestOf(files, instructions)}`
  const there = await engine.inspectImage(reference)
  const imageId =
    there?.id ?? (await engine.importImage({ tar: files.tar(), reference, changes: instructions }))
  await engine.tagImage(imageId, `${recipe.repository}:latest`)
  return { imageId, reference }
}

/** The operator's image with isola's client in it: a build of one step. */
async function derive(engine: Engine, recipe: Recipe, base: string): Promise<Made> {
  const onText = (): void => undefined
  const baseId =
    (await engine.inspectImage(base))?.id ?? (await engine.pullImage({ reference: base, onText }))
  const client = createImageFiles()
  addClient(client)
  const instructions = [`FROM ${base}`, 'COPY opt /opt', ...instructionsOf(recipe, Object.keys(ENVIRONMENT))]
  const reference = `${recipe.repository}:${await digestOf(client, [...instructions, baseId])}`
  const there = await engine.inspectImage(reference)
  if (there !== undefined) return { imageId: there.id, reference }
  client.addText('/Dockerfile', `${instructions.join('\n')}\n`)
  const timeoutMs = CONTAINER_LIMITS.buildTimeoutMs
  const imageId = await engine.buildImage({ tar: client.tar(), labels: {}, timeoutMs, onText })
  await engine.tagImage(imageId, reference)
  return { imageId, reference }
}

async function digestOf(files: ImageFiles, instructions: readonly string[]): Promise<string> {
  const text = JSON.stringify([await files.digest(), instructions])
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}

function instructionsOf(recipe: Recipe, leftToBase: readonly string[] = []): string[] {
  return [
    ...Object.entries(recipe.environment)
      .filter(([name]) => !leftToBase.includes(name))
      .map(([name, value]) => `ENV ${name}=${value}`),
    `LABEL isola.image=${recipe.kind}`,
    'WORKDIR /var/task',
    `USER ${FUNCTION_USER}`,
    `ENTRYPOINT ${JSON.stringify(recipe.entryPoint)}`,
  ]
}

async function programFiles(hostPath: string, path: string): Promise<ImageFiles> {
  const files = createBaseFiles()
  addSystem(files)
  addClient(files)
  files.addFile(hostPath, path)
  await addLibraries(files, [
    hostPath,
    ...files.hostPaths.filter((each) => each.startsWith('/bin/') || each.startsWith('/usr/bin/')),
  ])
  return files
}
