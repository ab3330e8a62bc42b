/** What one container writes, followed from a moment on; its last words on stderr are kept for the report of its end. */
import { OUTPUT_LIMITS } from '../../sdk/model/limits.ts'
import type { LogSink } from '../pool/driver.ts'
import type { Engine } from './engine.ts'
import { outputLine, type LineOwner } from './output-line.ts'

export interface ContainerOutput {
  lastErrors(): string
  /** Settles when all was read that it wrote before its end, or soon after its end. Never rejects. */
  readUp(): Promise<void>
  stop(): void
}

/** The engine may be slow with the rest, and whoever waits for a failed request waits for this. */
const READ_UP_MS = 50

export function followOutput(options: {
  readonly engine: Engine
  readonly containerId: string
  readonly sinceMs: number
  readonly owner: LineOwner
  readonly log: LogSink
}): ContainerOutput {
  const { owner, log } = options
  const errors: string[] = []
  let length = 0
  const keepError = (text: string): void => {
    const kept = text.slice(0, OUTPUT_LIMITS.lastErrorsLengthMax)
    errors.push(kept)
    length += kept.length
    while (errors.length > OUTPUT_LIMITS.lastErrorsLinesMax || length > OUTPUT_LIMITS.lastErrorsLengthMax) {
      length -= errors.shift()?.length ?? 0
    }
  }
  const reading = options.engine.readOutput(options.containerId, {
    sinceMs: options.sinceMs,
    onLine(line) {
      const text = line.text.trimEnd()
      if (text === '') return
      if (line.stream === 'stderr') keepError(text)
      log(outputLine({ ...line, text }, owner))
    },
  })
  return {
    lastErrors: () => errors.join('\n'),
    async readUp() {
      let timer: NodeJS.Timeout | undefined
      const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, READ_UP_MS)))
      await Promise.race([reading.ended.catch(() => undefined), patience])
      clearTimeout(timer)
    },
    stop: () => reading.stop(),
  }
}
