import { open } from 'node:fs/promises'
import { parseDocument, type ConfigDocument } from '../config/document.ts'
import { suggest } from '../config/suggestion.ts'
import { IsolaError } from '../model/errors.ts'
import { BUILD_LIMITS } from '../model/limits.ts'
import type { PriceTable, UsageHour } from '../model/usage.ts'

/** What usage costs, in the table's currency. */
export interface Cost {
  readonly requests: number
  readonly coldStarts: number
  readonly cpu: number
  readonly memory: number
  readonly egress: number
  readonly total: number
}

const PRICES = [
  'perMillionRequests',
  'perMillionCpuMs',
  'perGbS',
  'perEgressGb',
  'perThousandColdStarts',
] as const satisfies readonly (keyof PriceTable)[]
const FIELDS: readonly string[] = ['currency', ...PRICES]
/** It is printed: nothing that moves a terminal's cursor. */
const CURRENCY = /^[\p{L}\p{Sc}][\p{L}\p{N}\p{Sc} ._-]{0,15}$/u

/** JSON, comments allowed. Throws `config_not_found` and, with file, place and value, `config_invalid`. */
export async function readPriceTable(file: string): Promise<PriceTable> {
  const document = parseDocument(file, await readPlainFile(file))
  const { value } = document
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrong(
      document,
      [],
      'is no price table: write an object such as {"currency": "EUR", "perMillionRequests": 0.3}',
    )
  const fields = value as Readonly<Record<string, unknown>>
  for (const field of Object.keys(fields)) {
    if (FIELDS.includes(field)) continue
    const hint = suggest(field, FIELDS)
    const end = hint === undefined ? `the fields are ${FIELDS.join(', ')}` : `did you mean "${hint}"?`
    throw wrong(document, [field], `has a field ${JSON.stringify(field)} that no price table has: ${end}`)
  }
  for (const field of PRICES) {
    const price = fields[field]
    if (price === undefined || (typeof price === 'number' && price >= 0)) continue
    const problem = `has ${field} ${spell(price)}: give a number of 0 or more, or leave it out where it costs nothing`
    throw wrong(document, [field], problem)
  }
  const { currency } = fields
  if (typeof currency !== 'string' || !CURRENCY.test(currency)) {
    const given = currency === undefined ? 'no currency' : `currency ${spell(currency)}`
    throw wrong(document, ['currency'], `has ${given}: give a short name such as "EUR"`)
  }
  return fields as unknown as PriceTable
}

/** A GB of egress is 10⁹ bytes; memory is in GiB-seconds, as usage has it. */
export function costOf(
  prices: PriceTable,
  usage: Pick<UsageHour, 'requests' | 'coldStarts' | 'cpuMs' | 'gbS' | 'egressBytes'>,
): Cost {
  const requests = (usage.requests / 1e6) * (prices.perMillionRequests ?? 0)
  const coldStarts = (usage.coldStarts / 1e3) * (prices.perThousandColdStarts ?? 0)
  const cpu = (usage.cpuMs / 1e6) * (prices.perMillionCpuMs ?? 0)
  const memory = usage.gbS * (prices.perGbS ?? 0)
  const egress = (usage.egressBytes / 1e9) * (prices.perEgressGb ?? 0)
  return {
    requests: round(requests),
    coldStarts: round(coldStarts),
    cpu: round(cpu),
    memory: round(memory),
    egress: round(egress),
    total: round(requests + coldStarts + cpu + memory + egress),
  }
}

/** A thousand-millionth of the currency is fine enough, and hides what binary fractions add. */
function round(value: number): number {
  return Math.round(value * 1e9) / 1e9
}

async function readPlainFile(file: string): Promise<Uint8Array> {
  let handle
  try {
    handle = await open(file)
    const found = await handle.stat()
    if (!found.isFile()) throw new IsolaError('config_invalid', `${file} is no file: name a price table`)
    if (found.size > BUILD_LIMITS.configBytesMax) {
      throw new IsolaError(
        'config_invalid',
        `${file} has ${found.size} bytes, more than the ${BUILD_LIMITS.configBytesMax} of a configuration: is it the right file?`,
      )
    }
    return await handle.readFile()
  } catch (error) {
    if (error instanceof IsolaError) throw error
    throw new IsolaError(
      'config_not_found',
      `cannot read the price table ${file}: ${(error as Error).message}`,
      { cause: error },
    )
  } finally {
    await handle?.close()
  }
}

function wrong(document: ConfigDocument, path: readonly string[], problem: string): IsolaError {
  const position = document.locate(path)
  const place = position === undefined ? '' : `:${position.line}:${position.column}`
  return new IsolaError('config_invalid', `${document.file}${place} ${problem}`)
}

function spell(value: unknown): string {
  return JSON.stringify(value).slice(0, 80)
}
