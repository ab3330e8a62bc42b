/**
 * A workerd that waits for its configuration on stdin, in the binary form of `encodeConfig`. It reads to the end of
 * stdin: end the pipe after the message. One JSON line a socket is written to `controlFd` once it listens.
 */
export function blankArguments(options: { readonly controlFd: number }): string[] {
  return ['serve', '--binary', `--control-fd=${options.controlFd}`, '-']
}

export interface MemoryPlan {
  readonly v8Flags: readonly string[]
  /** Bounds of the requests between two garbage collections that the guest asks for (guest/memory.js); absent: none. */
  readonly collection?: { readonly requestsMin: number; readonly requestsMax: number }
}

/**
 * Chosen by `npm run bench -- isolate-memory`. Of the flags that make the heap small, this is the one that leaves
 * workerd's compile cache valid: `--expose-gc` and `--preconfigured-old-space-size` cost 3 ms of every start.
 */
export const MEMORY_PLAN: MemoryPlan = {
  v8Flags: ['--max-semi-space-size=2'],
  collection: { requestsMin: 500, requestsMax: 4_000 },
}

/**
 * V8's own limit for an instance of `memoryMib`. It lies below the kernel's by what is not JavaScript, so that V8
 * collects before the kernel ends it: with one as high as the other, 400 MiB of arrays did not fit in 512, nor 40 in
 * 64. Not lower: V8 fights long for the last of its heap, and a heap bomb of 128 MiB took 2 s of CPU in place of 0.4.
 */
export function heapMib(memoryMib: number): number {
  return Math.floor(memoryMib - 12 - memoryMib / 32)
}
