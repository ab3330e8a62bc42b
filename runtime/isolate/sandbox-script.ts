/** The shell of a launch, for any POSIX `sh`. Values that differ between launches are arguments, never spliced in. */
import { INSTANCE_LIMITS } from '../../sdk/model/limits.ts'
import type { SandboxRoot } from './sandbox-root.ts'

/** `ulimit -f` counts in blocks of 512 bytes. */
const FILE_BLOCK_BYTES = 512

/**
 * `sh -c <this> isola <count> <cgroup files…> <command…>`. A process moves itself into its cgroups because only then
 * nothing of it ever ran outside them. The file size limit bounds logs that no agent reads: workerd goes on when a
 * write fails with EFBIG, and SIGXFSZ, which would end it, is ignored.
 */
export function limitScript(): string {
  return `set -e
count=$1; shift
while [ "$count" -gt 0 ]; do echo $$ >"$1"; shift; count=$((count - 1)); done
trap '' XFSZ
ulimit -c 0
ulimit -f ${Math.floor(INSTANCE_LIMITS.logFileBytesMax / FILE_BLOCK_BYTES)}
limit=$(ulimit -H -n)
case $limit in unlimited) limit=${INSTANCE_LIMITS.openFilesMax} ;; esac
[ "$limit" -lt ${INSTANCE_LIMITS.openFilesMax} ] || limit=${INSTANCE_LIMITS.openFilesMax}
ulimit -n "$limit"
{ echo ${INSTANCE_LIMITS.oomScoreAdjust} >/proc/self/oom_score_adj; } 2>/dev/null || :
exec "$@"`
}

export interface DetachOptions {
  readonly root: SandboxRoot
  readonly mount: string
  readonly pivotRoot: string
  readonly socketsInside: string
}

/**
 * Turns the prepared root into the only file system there is. `umount` must read /proc to find what it unmounts, so
 * /proc is there until the same call takes it away with the old root.
 */
export function detachScript({ root, mount, pivotRoot, socketsInside }: DetachOptions): string {
  const target = quote(root.directory)
  return `${quote(mount)} -n -a -T ${quote(root.mountTable)}
${quote(mount)} -n --bind -o nosuid,nodev,noexec "$sockets" ${quote(root.directory + socketsInside)}
${quote(mount)} -n --rbind /proc ${quote(`${root.directory}/proc`)}
cd ${target}
${quote(pivotRoot)} . old
cd /
${root.unmountCommand.map(quote).join(' ')} -n -l /old /proc
cd ${socketsInside}`
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}
