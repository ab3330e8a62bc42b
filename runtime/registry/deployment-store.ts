import type { Deployment } from '../../sdk/model/function.ts'
import type { Bucket } from './bucket.ts'
import { readDeployment, writeDocument } from './documents.ts'

/** What served before: the head carries only the current deployment, and rollback needs the one before it. */
export interface DeploymentStore {
  put(functionName: string, deployment: Deployment): Promise<void>
  get(functionName: string, deploymentId: string): Promise<Deployment | undefined>
}

export const DEPLOYMENT_PREFIX = 'deployments/'

export function createDeploymentStore(bucket: Bucket): DeploymentStore {
  const keyOf = (functionName: string, id: string): string => `${DEPLOYMENT_PREFIX}${functionName}/${id}.json`
  return {
    async put(functionName, deployment) {
      await bucket.putIfAbsent(keyOf(functionName, deployment.id), writeDocument(deployment))
    },
    async get(functionName, deploymentId) {
      const key = keyOf(functionName, deploymentId)
      const object = await bucket.get(key)
      return object && readDeployment(key, object.body)
    },
  }
}
