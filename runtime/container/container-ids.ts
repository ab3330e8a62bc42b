import { randomBytes } from 'node:crypto'

/** Ids tell the agent that made them, so that it never takes what it is just making for an earlier one's remains. */
export interface ContainerIds {
  next(): string
  isOwn(id: string): boolean
}

const AGENT_BYTES = 3
const COUNT_BYTES = 3

export const CONTAINER_ID_CHARS = 2 * (AGENT_BYTES + COUNT_BYTES)

export function createContainerIds(): ContainerIds {
  const agent = randomBytes(AGENT_BYTES).toString('hex')
  let count = randomBytes(COUNT_BYTES).readUIntBE(0, COUNT_BYTES)
  return {
    next() {
      count = (count + 1) % 2 ** (8 * COUNT_BYTES)
      return agent + count.toString(16).padStart(2 * COUNT_BYTES, '0')
    },
    isOwn: (id) => id.startsWith(agent),
  }
}
