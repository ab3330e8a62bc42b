/** A node keeps the images of its functions in the engine when it stops; one whose data is removed has no use for them. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { createEngine, DEFAULT_ENGINE_SOCKET } from '../../runtime/container/engine-client.ts'

/** Of the node that had its data there. Its containers are gone already. */
export async function removeNodeImages(dataDirectory: string): Promise<void> {
  if (!existsSync(DEFAULT_ENGINE_SOCKET)) return
  const engine = createEngine({ socketPath: DEFAULT_ENGINE_SOCKET })
  // As the node names itself.
  const name = createHash('sha256').update(dataDirectory).digest('hex').slice(0, 12)
  for (const { references } of await engine.listImages({ 'isola.node': name })) {
    for (const reference of references) await engine.removeImage(reference)
  }
}
