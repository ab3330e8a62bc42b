import type { Policy, Prewarm } from '../model/policy.ts'
import { formatDuration } from './duration.ts'
import { usageError, type FlagValues } from './parse-arguments.ts'
import { formatPrewarm, parsePrewarm } from './prewarm.ts'
import { formatRate, parseRatePerS } from './rate.ts'
import type { SettingFields } from './setting-fields.ts'

const integer = (flags: FlagValues, flag: string): number | undefined => flags.integer(flag)
const duration = (flags: FlagValues, flag: string): number | undefined => flags.durationMs(flag)
const zeroIs =
  (meaning: string) =>
  (count: number): string =>
    count === 0 ? meaning : String(count)

/** A policy's fields, in the order in which they are shown. */
export const POLICY_FLAGS: SettingFields<Policy> = {
  min: {
    flag: 'min',
    value: 'N',
    help: 'instances kept even when idle',
    read: integer,
    format: String,
  },
  max: {
    flag: 'max',
    value: 'N',
    help: 'most instances of a version on a node; 0: as many as it has cores, at least 2',
    read: integer,
    format: zeroIs('as many as there are cores'),
  },
  concurrency: {
    flag: 'concurrency',
    value: 'N',
    help: 'requests one instance works on at a time',
    read: integer,
    format: String,
  },
  idleMs: {
    flag: 'idle',
    value: 'TIME|auto',
    help: 'an instance with nothing to do for this long is stopped, e.g. 5m; auto: learned from its arrivals',
    read: (flags, flag) => (flags.text(flag) === 'auto' ? 'auto' : flags.durationMs(flag)),
    format: (idleMs) => (idleMs === 'auto' ? 'auto' : formatDuration(idleMs)),
  },
  pauseMs: {
    flag: 'pause',
    value: 'TIME|never',
    help: 'an instance with nothing to do for this long is frozen until its next request, e.g. 2s',
    read: (flags, flag) => (flags.text(flag) === 'never' ? 0 : flags.durationMs(flag)),
    format: (pauseMs) => (pauseMs === 0 ? 'never' : formatDuration(pauseMs)),
  },
  queue: {
    flag: 'queue',
    value: 'N',
    help: 'requests that may wait for a slot; the next one gets 429 queue_full',
    read: integer,
    format: String,
  },
  queueTimeoutMs: {
    flag: 'queue-timeout',
    value: 'TIME',
    help: 'longest wait before 503 queue_timeout, e.g. 10s',
    read: duration,
    format: formatDuration,
  },
  ratePerS: {
    flag: 'rate',
    value: 'N/s|none',
    help: 'requests let through, sustained; the next one gets 429 rate_limited. Also 30000/m and 10/h',
    read(flags, flag) {
      const text = flags.text(flag)
      const ratePerS = text === undefined ? undefined : parseRatePerS(text)
      if (text === undefined || ratePerS !== undefined) return ratePerS
      throw usageError(
        `--${flag} is ${JSON.stringify(text)}: give requests per time, e.g. 500/s, 30000/m or none`,
      )
    },
    format: (ratePerS) => (ratePerS === 0 ? 'no limit' : formatRate(ratePerS)),
  },
  burst: {
    flag: 'burst',
    value: 'N',
    help: 'requests that may come at once; 0: as many as the rate lets through in a second',
    read: integer,
    format: zeroIs('a second of the rate'),
  },
  quota: {
    flag: 'quota',
    value: 'N',
    help: 'requests in flight or waiting on a node; the next one gets 429 quota_exceeded. 0: no limit',
    read: integer,
    format: zeroIs('no limit'),
  },
  weight: {
    flag: 'weight',
    value: 'N',
    help: 'share of a full node relative to other functions',
    read: integer,
    format: String,
  },
  prewarm: {
    flag: 'prewarm',
    value: '"CRON → MIN for TIME"',
    help: 'from each time of the schedule (UTC) keep MIN instances for TIME, e.g. "0 8 * * mon-fri = 3 for 2h"; none clears',
    repeatable: true,
    read: (flags, flag) => readPrewarms(flags.texts(flag)),
    format: (prewarm) => (prewarm.length === 0 ? 'none' : prewarm.map(formatPrewarm).join('; ')),
  },
}

function readPrewarms(texts: readonly string[]): Prewarm[] | undefined {
  if (texts.length === 0) return undefined
  if (texts.length === 1 && texts[0] === 'none') return []
  return texts.map((text) => {
    const prewarm = parsePrewarm(text)
    if (prewarm !== undefined) return prewarm
    throw usageError(
      `--prewarm is ${JSON.stringify(text)}: write "CRON → MIN for TIME", e.g. "0 8 * * mon-fri = 3 for 2h" (-> and = are the same as →), or none`,
    )
  })
}
