import type { EgressLimit, FunctionLimits } from '../model/function-limits.ts'
import { formatDuration } from './duration.ts'
import { usageError, type FlagValues } from './parse-arguments.ts'
import type { SettingFields } from './setting-fields.ts'
import { formatSize, parseSizeBytes } from './size.ts'

const MIB = 1024 * 1024
const duration = (flags: FlagValues, flag: string): number | undefined => flags.durationMs(flag)
const size = (flags: FlagValues, flag: string): number | undefined => flags.sizeBytes(flag)

/** The limits of a function, in the order in which they are shown. */
export const LIMIT_FLAGS: SettingFields<FunctionLimits> = {
  cpuMs: {
    flag: 'cpu',
    value: 'TIME',
    help: 'CPU time an instance may burn without answering, e.g. 500ms; then 503 cpu_limit_exceeded',
    read: duration,
    format: formatDuration,
  },
  wallMs: {
    flag: 'wall',
    value: 'TIME',
    help: 'from a request to the end of its response, e.g. 30s; then 504 wall_limit_exceeded',
    read: duration,
    format: formatDuration,
  },
  memoryMib: {
    flag: 'memory',
    value: 'MIB',
    help: 'of one instance, e.g. 256 or 256MiB; beyond it 503 memory_limit_exceeded',
    read: readMemory,
    format: (memoryMib) => formatSize(memoryMib * MIB),
  },
  subrequests: {
    flag: 'subrequests',
    value: 'N',
    help: 'outgoing requests that one request may cause; the next gets 429 subrequest_limit_exceeded',
    read: (flags, flag) => flags.integer(flag),
    format: String,
  },
  requestBytes: {
    flag: 'request-body',
    value: 'SIZE',
    help: 'most bytes of a request, e.g. 10MB; beyond it 413 body_too_large',
    read: size,
    format: formatSize,
  },
  responseBytes: {
    flag: 'response-body',
    value: 'SIZE',
    help: 'most bytes of a response, e.g. 50MB; beyond it 502 response_too_large, or cut off',
    read: size,
    format: formatSize,
  },
  logBytesPerMin: {
    flag: 'logs',
    value: 'SIZE',
    help: 'what it may log in a minute, e.g. 1MB; the rest is dropped and counted',
    read: size,
    format: (logBytesPerMin) => `${formatSize(logBytesPerMin)} a minute`,
  },
  egress: {
    flag: 'egress',
    value: 'public|none|HOST,…',
    help: 'where its own requests may go, e.g. api.example.com,*.example.org; elsewhere 403 egress_refused',
    read: readEgress,
    format: (egress) => (typeof egress === 'string' ? egress : egress.join(',')),
  },
}

function readMemory(flags: FlagValues, flag: string): number | undefined {
  const text = flags.text(flag)
  if (text === undefined) return undefined
  if (/^\d{1,9}$/.test(text)) return Number(text)
  const sizeBytes = parseSizeBytes(text)
  if (sizeBytes !== undefined && sizeBytes % MIB === 0) return sizeBytes / MIB
  const reason = sizeBytes === undefined ? '' : `, which is ${(sizeBytes / MIB).toFixed(2)} MiB`
  throw usageError(`--${flag} is ${JSON.stringify(text)}${reason}: give whole MiB, e.g. 256, 256MiB or 1GiB`)
}

function readEgress(flags: FlagValues, flag: string): EgressLimit | undefined {
  const text = flags.text(flag)
  if (text === undefined || text === 'public' || text === 'none') return text
  const hosts = text.split(',').map((host) => host.trim())
  if (!hosts.includes('')) return hosts
  throw usageError(
    `--${flag} is ${JSON.stringify(text)}: give public, none, or hosts with "," between them, e.g. api.example.com,*.example.org`,
  )
}
