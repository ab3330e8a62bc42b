/**
 * Where the inner door's server listens. Made beside its place and moved there when it is complete: libuv unlinks the
 * path it bound when it closes, and that must not be the path that a successor has taken over.
 */
import { lstatSync, renameSync, rmSync } from 'node:fs'
import type { Server } from 'node:http'

/** Only the owner can connect. */
export async function listenAtInnerDoor(server: Server, path: string): Promise<void> {
  const staging = `${path}~`
  rmSync(staging, { force: true })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    const previousMask = process.umask(0o177)
    try {
      server.listen(staging, resolve)
    } finally {
      process.umask(previousMask)
    }
  })
  renameSync(staging, path)
  const inode = inodeOf(path)
  server.once('close', () => {
    if (inodeOf(path) === inode) rmSync(path, { force: true })
  })
}

function inodeOf(path: string): bigint | undefined {
  return lstatSync(path, { throwIfNoEntry: false, bigint: true })?.ino
}
