import { IsolaError } from '../../sdk/model/errors.ts'

/** Throws `body_too_large` as soon as there is more. */
export async function* boundBytes(
  source: AsyncIterable<Uint8Array>,
  bytesMax: number,
): AsyncGenerator<Uint8Array> {
  let totalBytes = 0
  for await (const chunk of source) {
    totalBytes += chunk.byteLength
    if (totalBytes > bytesMax) {
      throw new IsolaError(
        'body_too_large',
        `the archive has more than ${bytesMax} bytes: leave out what the image does not need`,
      )
    }
    yield chunk
  }
}
