/**
 * A unix socket that is bound beside its place and moved there: a process that ends removes the path it has bound, and by
 * then that place may be its successor's.
 */
import { chmodSync, lstatSync, renameSync, rmSync } from 'node:fs'
import type { Server } from 'node:net'

export interface SocketFile {
  /** Unless it is another's by now. */
  remove(): void
}

export async function listenAt(server: Server, path: string, mode: number): Promise<SocketFile> {
  const stagingPath = `${path}~`
  rmSync(stagingPath, { force: true })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(stagingPath, () => {
      server.off('error', reject)
      resolve()
    })
  })
  chmodSync(stagingPath, mode)
  renameSync(stagingPath, path)
  const inode = inodeOf(path)
  return {
    remove() {
      if (inode !== undefined && inodeOf(path) === inode) rmSync(path, { force: true })
    },
  }
}

export function inodeOf(path: string): bigint | undefined {
  return lstatSync(path, { throwIfNoEntry: false, bigint: true })?.ino
}
