import { join } from 'node:path'
import type { LogLine } from '../../../sdk/model/log-line.ts'
import { INNER_DOOR_SOCKET } from '../../pool/inner-door.ts'
import type { Instance } from '../../pool/driver.ts'
import { createTailDelivery } from './tail-consumers.ts'
import { TailHub } from './tail-hub.ts'

export interface TailParts {
  readonly runPath: string
  instances(): readonly Instance[]
  setTailed(functionNames: readonly string[]): void
  log(line: LogLine): void
}

/** What a node has of tails. */
export function openTails({ runPath, instances, setTailed, log }: TailParts): TailHub {
  const delivery = createTailDelivery({
    socketPath: join(runPath, INNER_DOOR_SOCKET),
    onFailure: (functionName, message) => {
      const time = new Date().toISOString()
      log({ time, source: 'instance', level: 'warn', functionName, versionId: '', message })
    },
  })
  return new TailHub({ instances, setTailed, delivery })
}
