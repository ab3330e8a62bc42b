/** Starts with nothing made ahead, which a node does only when its pools are taken: so the driver is asked itself. */
import { codeVersion, openContainerPlace, versionOf } from '../harness/container-driver.ts'
import type { ContainerVersion } from '../../sdk/model/function.ts'
import { HANDLER_SOURCE } from './container-functions.ts'
import { SERVER_SOURCE } from './docker-run.ts'
import { firstAnswer } from './first-answer.ts'

export interface EmptyPools {
  /** From before the start to the first byte of the answer. */
  start(kind: 'code' | 'image'): Promise<number>
  end(): Promise<void>
}

export async function openEmptyPools(): Promise<EmptyPools> {
  const place = await openContainerPlace()
  const image = await place.engine.inspectImage('isola-runtime-nodejs24')
  if (image === undefined) throw new Error('the image of the runtime is not there')
  const versions: Readonly<Record<'code' | 'image', ContainerVersion>> = {
    code: await codeVersion({ 'index.js': HANDLER_SOURCE }),
    image: versionOf({
      protocol: 'http',
      source: { type: 'image', imageId: image.id, entryPoint: ['node', '--eval', SERVER_SOURCE] },
    }),
  }
  const start: EmptyPools['start'] = async (kind) => {
    const beganMs = performance.now()
    const instance = await place.driver.start(versions[kind])
    const answer = await firstAnswer({ path: instance.socketPath }, 'localhost')
    const tookMs = performance.now() - beganMs
    await instance.stop({ graceMs: 0 })
    if (answer.status !== 200) throw new Error(`it answered ${answer.text}`)
    return tookMs
  }
  // What is done once in the life of a node: images are made, code is unpacked.
  for (const kind of ['code', 'image'] as const) await start(kind)
  return { start, end: () => place.end() }
}
