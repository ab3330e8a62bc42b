/** Whether an archive is a zip whose files could be unpacked. Only its directory is read: what unpacks it checks again. */
import { fromBuffer } from 'yauzl'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { ApiError } from './api-error.ts'

/** Throws `InvalidParameterValueException` with AWS's words. */
export async function checkArchive(archive: Uint8Array): Promise<void> {
  const { archiveBytesMax, unpackedBytesMax, archiveFilesMax } = CONTAINER_LIMITS
  if (archive.byteLength > archiveBytesMax) {
    throw new ApiError(
      'RequestEntityTooLargeException',
      `The archive has ${archive.byteLength} bytes: zipped code may have ${archiveBytesMax}.`,
    )
  }
  const { files, bytes, problem } = await readDirectory(archive)
  if (problem !== undefined) {
    throw refusal(
      `Could not unzip uploaded file. Please check your file, then try to upload again. (${problem})`,
    )
  }
  if (bytes > unpackedBytesMax) throw refusal(`Unzipped size must be smaller than ${unpackedBytesMax} bytes`)
  if (files > archiveFilesMax) {
    throw refusal(`The archive holds ${files} files: it may hold ${archiveFilesMax}.`)
  }
  if (files === 0) throw refusal('Uploaded file must be a non-empty zip')
}

function refusal(message: string): ApiError {
  return new ApiError('InvalidParameterValueException', message)
}

interface Contents {
  readonly files: number
  readonly bytes: number
  readonly problem?: string
}

function readDirectory(archive: Uint8Array): Promise<Contents> {
  return new Promise((resolve) => {
    let files = 0
    let bytes = 0
    // Names with `..`, absolute ones and those with backslashes are errors to it.
    fromBuffer(Buffer.from(archive), { lazyEntries: true }, (error, zip) => {
      if (error !== null) return resolve({ files, bytes, problem: error.message })
      zip.on('error', (error: Error) => resolve({ files, bytes, problem: error.message }))
      zip.on('end', () => resolve({ files, bytes }))
      zip.on('entry', (entry: { readonly fileName: string; readonly uncompressedSize: number }) => {
        if (!entry.fileName.endsWith('/')) files++
        bytes += entry.uncompressedSize
        zip.readEntry()
      })
      zip.readEntry()
    })
  })
}
