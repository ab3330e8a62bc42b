import type { CommandContext } from './command.ts'
import { usageError } from './parse-arguments.ts'

/** All of stdin. Throws `usage` where it is longer than what it is for. */
export async function readInput(context: Pick<CommandContext, 'input'>, bytesMax: number): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let totalBytes = 0
  for await (const chunk of context.input ?? []) {
    totalBytes += chunk.byteLength
    if (totalBytes > bytesMax) throw usageError(`stdin has more than ${bytesMax} bytes: give less`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, totalBytes)
}
