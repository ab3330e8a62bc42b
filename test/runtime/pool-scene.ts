/** A pool that tells the test whom it needs and who has drained. */
import { expect } from 'vitest'
import { parsePolicy } from '../../sdk/model/policy.ts'
import {
  InstancePool,
  type PooledInstance,
  type PoolOptions,
  type Refusal,
  type Waiter,
} from '../../runtime/pool/pool.ts'

export interface Scene {
  readonly pool: InstancePool
  readonly needs: string[]
  readonly drained: string[]
}

export function scene(policy: Parameters<typeof parsePolicy>[0], more: Partial<PoolOptions> = {}): Scene {
  const needs: string[] = []
  const drained: string[] = []
  const pool = new InstancePool({
    functionName: 'hello',
    versionId: 'v1',
    policy: parsePolicy(policy),
    onNeed: ({ versionId }) => needs.push(versionId),
    onDrained: ({ id }) => drained.push(id),
    ...more,
  })
  return { pool, needs, drained }
}

export const address = (id: string): Parameters<InstancePool['add']>[0] => ({
  id,
  functionName: 'hello',
  versionId: 'v1',
  socketPath: `/run/${id}`,
})

export const freezable = (id: string): Parameters<InstancePool['add']>[0] => ({
  ...address(id),
  freezer: { file: `/sys/${id}`, frozen: '1', thawed: '0' },
})

/** A waiter that remembers its one outcome and fails at a second. */
export function waiter(): Waiter & { outcome: PooledInstance | Refusal | undefined } {
  const settle = (outcome: PooledInstance | Refusal): void => {
    expect(self.outcome).toBeUndefined()
    self.outcome = outcome
  }
  const self: Waiter & { outcome: PooledInstance | Refusal | undefined } = {
    outcome: undefined,
    onSlot: settle,
    onRefusal: settle,
    onClosed: () => expect.unreachable(),
  }
  return self
}
