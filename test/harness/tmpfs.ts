import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Runs `use` on a small file system of its own; false where the machine does not let us mount one. */
export async function withTmpfs(
  options: { readonly sizeBytes: number },
  use: (directory: string, mount: { readonly makeReadOnly: () => void }) => Promise<void>,
): Promise<boolean> {
  const directory = mkdtempSync(join(tmpdir(), 'isola-tmpfs-'))
  const mounted = spawnSync('/bin/mount', [
    '-t',
    'tmpfs',
    '-o',
    `size=${options.sizeBytes}`,
    'tmpfs',
    directory,
  ])
  if (mounted.status !== 0) {
    rmdirSync(directory)
    return false
  }
  try {
    await use(directory, {
      makeReadOnly: () => {
        const { status } = spawnSync('/bin/mount', ['-o', 'remount,ro', directory])
        if (status !== 0) throw new Error(`remount of ${directory} failed with ${status}`)
      },
    })
  } finally {
    spawnSync('/bin/umount', ['-l', directory])
    rmdirSync(directory)
  }
  return true
}
