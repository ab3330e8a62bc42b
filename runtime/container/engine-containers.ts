import { IsolaError } from '../../sdk/model/errors.ts'
import type { ContainerInspection, ContainerSummary, Engine } from './engine.ts'
import { unexpectedAnswer } from './engine-error.ts'
import type { EngineHttp } from './engine-http.ts'

type ContainerCalls = Pick<
  Engine,
  | 'createContainer'
  | 'startContainer'
  | 'killContainer'
  | 'removeContainer'
  | 'inspectContainer'
  | 'listContainers'
>

export function containerCalls(http: EngineHttp): ContainerCalls {
  return {
    async createContainer(name, spec) {
      const answer = await http.call({
        method: 'POST',
        path: '/containers/create',
        query: { name },
        json: spec,
      })
      const { status, message } = answer
      if (status === 201) return (answer.json as { readonly Id: string }).Id
      if (status === 409) {
        throw new IsolaError(
          'conflict',
          `a container "${name}" is there already: remove it first (${message})`,
        )
      }
      if (status === 404) {
        throw new IsolaError(
          'image_not_found',
          `the engine has no image ${spec.Image}: build, load or pull it again (${message})`,
        )
      }
      throw unexpectedAnswer(`making container "${name}"`, answer)
    },
    async startContainer(id) {
      const answer = await http.call({ method: 'POST', path: `/containers/${id}/start` })
      // 304: it runs already.
      if (answer.status === 204 || answer.status === 304) return
      if (answer.status === 400) {
        throw new IsolaError('start_failed', `the container's command cannot be run: ${answer.message}`)
      }
      throw unexpectedAnswer(`starting container ${id}`, answer)
    },
    async killContainer(id, signal) {
      const answer = await http.call({ method: 'POST', path: `/containers/${id}/kill`, query: { signal } })
      if (answer.status === 204) return true
      if (answer.status === 404 || answer.status === 409) return false
      throw unexpectedAnswer(`ending container ${id}`, answer)
    },
    async removeContainer(id) {
      const answer = await http.call({
        method: 'DELETE',
        path: `/containers/${id}`,
        query: { force: '1', v: '1' },
      })
      // 409: somebody else is removing it at this moment.
      if (![204, 404, 409].includes(answer.status)) {
        throw unexpectedAnswer(`removing container ${id}`, answer)
      }
    },
    async inspectContainer(id) {
      const answer = await http.call({ method: 'GET', path: `/containers/${id}/json` })
      if (answer.status === 404) return undefined
      if (answer.status !== 200) throw unexpectedAnswer(`looking at container ${id}`, answer)
      return inspectionOf(answer.json as RawContainer)
    },
    async listContainers(labels) {
      const answer = await http.call({
        method: 'GET',
        path: '/containers/json',
        query: { all: '1', filters: labelFilter(labels) },
      })
      if (answer.status !== 200) throw unexpectedAnswer('listing containers', answer)
      return (answer.json as readonly RawSummary[]).map(summaryOf)
    },
  }
}

/** As `filters` of the engine's API has it: all of them must be there. */
export function labelFilter(labels: Readonly<Record<string, string>>): string {
  return JSON.stringify({ label: Object.entries(labels).map(([key, value]) => `${key}=${value}`) })
}

interface RawContainer {
  readonly Id: string
  readonly Name: string
  readonly Image: string
  readonly State: {
    readonly Status: ContainerInspection['status']
    readonly Pid: number
    readonly ExitCode: number
    readonly OOMKilled: boolean
    readonly Error: string
    readonly StartedAt: string
  }
  readonly Config: { readonly Labels: Readonly<Record<string, string>> | null }
  readonly HostConfig: { readonly CgroupParent?: string }
}

function inspectionOf(raw: RawContainer): ContainerInspection {
  const { State: state } = raw
  return {
    id: raw.Id,
    name: raw.Name.replace(/^\//, ''),
    labels: raw.Config.Labels ?? {},
    status: state.Status,
    pid: state.Pid,
    exitCode: state.ExitCode,
    outOfMemory: state.OOMKilled,
    error: state.Error,
    // Before its first start the engine gives the year 1.
    startedAtMs: Math.max(0, Date.parse(state.StartedAt) || 0),
    imageId: raw.Image,
    cgroupParent: raw.HostConfig.CgroupParent ?? '',
  }
}

interface RawSummary {
  readonly Id: string
  readonly Names: readonly string[] | null
  readonly Labels: Readonly<Record<string, string>> | null
  readonly State: string
}

function summaryOf(raw: RawSummary): ContainerSummary {
  return {
    id: raw.Id,
    name: (raw.Names?.[0] ?? '').replace(/^\//, ''),
    labels: raw.Labels ?? {},
    // A paused one has processes, too.
    running: raw.State === 'running' || raw.State === 'paused',
  }
}
