import type { DeployResult } from '../model/control.ts'
import { formatShares } from './shares.ts'

/** What became live, where it answers, how long it took. */
export function formatDeployResult(result: DeployResult): string {
  const [only] = result.deployment.shares
  const what =
    result.deployment.shares.length === 1 && only !== undefined
      ? `version ${only.versionId}`
      : `versions ${formatShares(result.deployment.shares)}`
  const trial = result.trialMs === undefined ? '' : ` (trial start ${Math.round(result.trialMs)} ms)`
  return [
    `${result.functionName}: ${what} is live in ${Math.round(result.liveMs)} ms${trial}`,
    ...result.urls.map((url) => `  ${url}`),
  ].join('\n')
}
