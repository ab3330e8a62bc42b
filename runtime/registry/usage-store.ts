/**
 * Usage in the bucket:
 *
 *   usage/open.json           the hours that are still counted, and how far each source has been counted (cursors)
 *   usage/<hour>.json         an hour that is over
 *
 * What is counted and how far must change together, or a crash between the two counts something twice: so both are in
 * the one document `open.json`, written whole. An hour that is over is copied out of it first and left out of it after:
 * as long as `open.json` names an hour, its rows are the truth and the copy is not looked at, so a crash between these
 * two writes does no harm, and neither does a clock that goes back.
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { UsageHour } from '../../sdk/model/usage.ts'
import type { Bucket } from './bucket.ts'

export type UsageNumbers = Omit<UsageHour, 'functionName' | 'hour'>
/** By function name. */
export type UsageRows = ReadonlyMap<string, UsageNumbers>

/** How far the sums of one process have been counted. */
export interface UsageCursor {
  /** Of the process; its sums began at zero with it. */
  readonly epoch: string
  /** What was counted last, by what is counted. */
  readonly counted: Readonly<Record<string, readonly number[]>>
  /** Some entries were forgotten: what is gone and comes without one has been counted. */
  readonly incomplete?: boolean | undefined
}

export interface OpenUsage {
  /** By the hour's begin, ISO 8601. */
  readonly hours: ReadonlyMap<string, UsageRows>
  readonly cursors: Readonly<Record<string, UsageCursor>>
}

export interface UsageStore {
  /**
   * `undefined` where nothing was ever counted. Throws `data_unusable` for a document that cannot be read; it is copied
   * aside then, and the next `writeOpen` takes its place.
   */
  readOpen(): Promise<OpenUsage | undefined>
  /** Throws `conflict` where somebody else wrote it since. */
  writeOpen(open: OpenUsage): Promise<void>
  /** Throws `data_unusable`. */
  readHour(hour: string): Promise<UsageRows | undefined>
  writeHour(hour: string, rows: UsageRows): Promise<void>
  /** From this hour on, oldest first. */
  listHours(sinceHour: string): Promise<readonly string[]>
  removeBefore(hour: string): Promise<void>
}

const PREFIX = 'usage/'
const OPEN_KEY = `${PREFIX}open.json`
const HOUR_KEY = /^usage\/(\d{4}-\d{2}-\d{2}T\d{2})\.json$/

/** Rows are arrays in this order: a thousand functions are 60 KB, not 160. */
const FIELDS = [
  'requests',
  'refused',
  'coldStarts',
  'cpuMs',
  'gbS',
  'responseBytes',
  'egressBytes',
] as const satisfies readonly (keyof UsageNumbers)[]

const rows = z.record(z.string(), z.array(z.number().nonnegative()).length(FIELDS.length))
const hourDocument = z.looseObject({ formatVersion: z.literal(1), rows })
const openDocument = z.looseObject({
  formatVersion: z.literal(1),
  writeId: z.string(),
  hours: z.record(z.iso.datetime(), rows),
  cursors: z.record(
    z.string(),
    z.looseObject({
      epoch: z.string(),
      counted: z.record(z.string(), z.array(z.number())),
      incomplete: z.boolean().optional(),
    }),
  ),
})

export function createUsageStore(options: {
  readonly bucket: Bucket
  /** Makes ids that are never made twice. */
  readonly newId: () => string
}): UsageStore {
  const { bucket, newId } = options
  let openEtag: string | undefined

  const put = (
    key: string,
    body: Uint8Array,
    etag: string | undefined,
  ): Promise<{ etag: string } | undefined> =>
    etag === undefined ? bucket.putIfAbsent(key, body) : bucket.putIfMatch(key, body, etag)

  return {
    async readOpen() {
      const found = await bucket.get(OPEN_KEY)
      if (found === undefined) return undefined
      openEtag = found.etag
      try {
        const { hours, cursors } = parse(OPEN_KEY, openDocument, found.body)
        return {
          hours: new Map(Object.entries(hours).map(([hour, each]) => [hour, toRows(each)])),
          cursors,
        }
      } catch (error) {
        const digest = createHash('sha256').update(found.body).digest('hex').slice(0, 16)
        await bucket.putIfAbsent(`${PREFIX}unreadable-${digest}.json`, found.body)
        throw error
      }
    },

    async writeOpen({ hours, cursors }) {
      const writeId = newId()
      const entries = [...hours].map(([hour, each]) => [hour, fromRows(each)] as const)
      const document = {
        formatVersion: 1,
        writeId,
        fields: FIELDS,
        hours: Object.fromEntries(entries),
        cursors,
      }
      const written = await put(OPEN_KEY, encode(document), openEtag).catch(async (error: unknown) => {
        // Unclear: it may have been written all the same.
        const found = await ownWrite(bucket, writeId).catch(() => undefined)
        if (found === undefined) throw error
        return found
      })
      // A refusal can be our own success, sent twice by something below us.
      const own = written ?? (await ownWrite(bucket, writeId))
      if (own === undefined) {
        throw new IsolaError(
          'conflict',
          `object "${OPEN_KEY}" of the registry was written by somebody else: only one node may count in a bucket`,
          { details: { key: OPEN_KEY } },
        )
      }
      openEtag = own.etag
    },

    async readHour(hour) {
      const key = hourKey(hour)
      const found = await bucket.get(key)
      return found && toRows(parse(key, hourDocument, found.body).rows)
    },

    async writeHour(hour, hourRows) {
      const key = hourKey(hour)
      const body = encode({ formatVersion: 1, fields: FIELDS, rows: fromRows(hourRows) })
      if ((await put(key, body, (await bucket.head(key))?.etag)) === undefined) {
        throw new IsolaError(
          'conflict',
          `object "${key}" of the registry was written by somebody else: only one node may count in a bucket`,
          { details: { key } },
        )
      }
    },

    async listHours(sinceHour) {
      const hours: string[] = []
      for await (const { key } of bucket.list(PREFIX)) {
        const hour = hourOfKey(key)
        if (hour !== undefined && hour >= sinceHour) hours.push(hour)
      }
      return hours
    },

    async removeBefore(beforeHour) {
      const old: string[] = []
      for await (const { key } of bucket.list(PREFIX)) {
        const hour = hourOfKey(key)
        if (hour !== undefined && hour < beforeHour) old.push(key)
      }
      for (const key of old) await bucket.delete(key)
    },
  }
}

async function ownWrite(bucket: Bucket, writeId: string): Promise<{ readonly etag: string } | undefined> {
  const found = await bucket.get(OPEN_KEY)
  return found !== undefined && parse(OPEN_KEY, openDocument, found.body).writeId === writeId
    ? found
    : undefined
}

function hourKey(hour: string): string {
  return `${PREFIX}${hour.slice(0, 13)}.json`
}

function hourOfKey(key: string): string | undefined {
  const hour = HOUR_KEY.exec(key)?.[1]
  return hour === undefined ? undefined : `${hour}:00:00.000Z`
}

function toRows(stored: Readonly<Record<string, readonly number[]>>): UsageRows {
  return new Map(
    Object.entries(stored).map(([functionName, values]) => [
      functionName,
      Object.fromEntries(
        FIELDS.map((field, index) => [field, values[index] ?? 0]),
      ) as unknown as UsageNumbers,
    ]),
  )
}

function fromRows(hourRows: UsageRows): Record<string, number[]> {
  const entries = [...hourRows].map(
    ([functionName, numbers]) => [functionName, FIELDS.map((field) => round(numbers[field]))] as const,
  )
  return Object.fromEntries(entries)
}

/** Sums of small fractions have long tails: a microsecond and a few kilobytes for a second are fine enough. */
function round(value: number): number {
  return Math.round(value * 1e6) / 1e6
}

function encode(document: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(document))
}

function parse<T>(key: string, schema: z.ZodType<T>, body: Uint8Array): T {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (error) {
    throw unreadable(key, (error as Error).message, error)
  }
  const result = schema.safeParse(json)
  if (result.success) return result.data
  const [issue] = result.error.issues
  throw unreadable(key, `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}`, result.error)
}

function unreadable(key: string, reason: string, cause: unknown): IsolaError {
  return new IsolaError(
    'data_unusable',
    `object "${key}" of the registry cannot be read (${reason}): restore the bucket from a backup, or use the newer isola that wrote it`,
    { cause, details: { key } },
  )
}
