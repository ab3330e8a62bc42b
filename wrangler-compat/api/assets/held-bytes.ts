/**
 * Room for files on their way, shared by all uploads. Who waits is served in order, so that a large file is not starved.
 * Buffers of ordinary files are used again: made anew for each, a thousand files would be held until they are collected.
 */
export interface HeldBytes {
  /** Runs the work once there is room for so many bytes. It has the buffer, of that length, until it is over. */
  hold<T>(sizeBytes: number, work: (bytes: Buffer) => Promise<T>): Promise<T>
}

const REUSED_BYTES = 1024 * 1024
const FREE_MAX = 4

export function createHeldBytes(bytesMax: number): HeldBytes {
  let heldBytes = 0
  const free: Buffer[] = []
  const waiting: { readonly sizeBytes: number; readonly go: () => void }[] = []
  const admit = (): void => {
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      // One that is larger than all the room goes when it is alone.
      if (heldBytes > 0 && heldBytes + next.sizeBytes > bytesMax) return
      waiting.shift()
      heldBytes += next.sizeBytes
      next.go()
    }
  }
  return {
    async hold(sizeBytes, work) {
      await new Promise<void>((go) => {
        waiting.push({ sizeBytes, go })
        admit()
      })
      const buffer =
        sizeBytes > REUSED_BYTES
          ? Buffer.allocUnsafeSlow(sizeBytes)
          : (free.pop() ?? Buffer.allocUnsafeSlow(REUSED_BYTES))
      try {
        return await work(buffer.subarray(0, sizeBytes))
      } finally {
        if (buffer.length === REUSED_BYTES && free.length < FREE_MAX) free.push(buffer)
        heldBytes -= sizeBytes
        admit()
      }
    },
  }
}
