import { IsolaError } from '../../sdk/model/errors.ts'
import type { Engine } from './engine.ts'
import { labelFilter } from './engine-containers.ts'
import { unexpectedAnswer } from './engine-error.ts'
import type { EngineHttp } from './engine-http.ts'

type NetworkCalls = Pick<Engine, 'ensureNetwork' | 'removeNetwork' | 'listNetworks'>

interface RawNetwork {
  readonly Id: string
  readonly Name: string
}

export function networkCalls(http: EngineHttp): NetworkCalls {
  const find = async (name: string): Promise<string | undefined> => {
    const answer = await http.call({ method: 'GET', path: `/networks/${encodeURIComponent(name)}` })
    if (answer.status === 200) return (answer.json as RawNetwork).Id
    if (answer.status === 404) return undefined
    throw unexpectedAnswer(`looking at network "${name}"`, answer)
  }
  return {
    async ensureNetwork(name, spec) {
      const there = await find(name)
      if (there !== undefined) return there
      const answer = await http.call({
        method: 'POST',
        path: '/networks/create',
        json: {
          Name: name,
          CheckDuplicate: true,
          Driver: 'bridge',
          Internal: spec.internal,
          Labels: spec.labels,
          Options: { ...spec.options, 'com.docker.network.bridge.name': spec.bridgeName },
        },
      })
      if (answer.status === 201) return (answer.json as RawNetwork).Id
      // Somebody else made it meanwhile.
      const made = answer.status === 409 ? await find(name) : undefined
      if (made !== undefined) return made
      throw unexpectedAnswer(`making network "${name}"`, answer)
    },
    async removeNetwork(name) {
      const answer = await http.call({ method: 'DELETE', path: `/networks/${encodeURIComponent(name)}` })
      if (answer.status === 204 || answer.status === 404) return
      if (answer.status === 403) {
        throw new IsolaError('conflict', `network "${name}" is in use: remove its containers first`)
      }
      throw unexpectedAnswer(`removing network "${name}"`, answer)
    },
    async listNetworks(labels) {
      const answer = await http.call({
        method: 'GET',
        path: '/networks',
        query: { filters: labelFilter(labels) },
      })
      if (answer.status !== 200) throw unexpectedAnswer('listing networks', answer)
      return (answer.json as readonly RawNetwork[]).map(({ Id, Name }) => ({ id: Id, name: Name }))
    },
  }
}
