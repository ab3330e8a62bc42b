const UNIT_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  KIB: 1024,
  MIB: 1024 ** 2,
  GIB: 1024 ** 3,
  KB: 1_000,
  MB: 1_000 ** 2,
  GB: 1_000 ** 3,
}

/**
 * `512K` and `512KiB` (1024 bytes each), `10MB` (powers of 1000), `1.5GiB`, `100B`; in any case. A bare number is refused
 * (`undefined`), 0 aside: nobody knows its unit.
 */
export function parseSizeBytes(text: string): number | undefined {
  if (text === '0') return 0
  const match = /^(\d{1,12}(?:\.\d{1,6})?)([kmg]i?b|[bkmg])$/i.exec(text)
  if (match === null) return undefined
  return Math.round(Number(match[1]) * (UNIT_BYTES[(match[2] ?? '').toUpperCase()] ?? 0))
}

/** The shortest exact spelling that `parseSizeBytes` reads back. */
export function formatSize(sizeBytes: number): string {
  for (const unit of ['GiB', 'GB', 'MiB', 'MB', 'KiB', 'KB']) {
    const unitBytes = UNIT_BYTES[unit.toUpperCase()] ?? 1
    if (sizeBytes >= unitBytes && sizeBytes % unitBytes === 0) return `${sizeBytes / unitBytes}${unit}`
  }
  return `${sizeBytes}B`
}
