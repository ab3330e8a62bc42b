import { servicesOf } from '../../../sdk/model/function.ts'
import type { ApiCall, Endpoints } from '../endpoint.ts'
import { param } from '../endpoint.ts'
import { findScript, wranglerRecord } from '../script-record.ts'

export const referenceEndpoints: Endpoints = {
  'GET /accounts/:account/workers/scripts/:script/references': async (call) => {
    const { name } = findScript(call.ports.registry.head, param(call, 'script'))
    const callers = await callersOf(call, name)
    if (callers.length === 0) return {}
    const incoming = callers.map((caller) => ({ name: caller, service: caller, environment: 'production' }))
    return { services: { incoming } }
  },
  'GET /accounts/:account/workers/tails/by-consumer/:script': (call) => {
    const consumer = param(call, 'script')
    return producersOf(call, consumer).map((producer) => ({
      tag: producer,
      producer: { script: producer, service: producer, environment: 'production' },
      consumer: { script: consumer, service: consumer, environment: 'production' },
    }))
  },
  /** There are none yet; wrangler asks for them whenever it deletes. */
  'GET /accounts/:account/workers/durable_objects/namespaces': () => [],
  'GET /accounts/:account/containers/applications': () => [],
}

/** Functions that serve and call this one by a service binding. */
export async function callersOf({ ports }: ApiCall, functionName: string): Promise<readonly string[]> {
  const callers: string[] = []
  for (const { name, deployment } of Object.values(ports.registry.head.functions)) {
    if (name === functionName) continue
    for (const { versionId } of deployment.shares) {
      const version = await ports.registry.getVersion(name, versionId)
      if (version === undefined || !servicesOf(version.content).includes(functionName)) continue
      callers.push(name)
      break
    }
  }
  return callers
}

function producersOf({ ports }: ApiCall, consumer: string): readonly string[] {
  return Object.values(ports.registry.head.functions)
    .filter((record) => {
      const { tailConsumers = [], streamingTailConsumers = [] } = wranglerRecord(record).settings
      return [...tailConsumers, ...streamingTailConsumers].some(
        (each) => (each as { service?: unknown } | null)?.service === consumer,
      )
    })
    .map(({ name }) => name)
}
