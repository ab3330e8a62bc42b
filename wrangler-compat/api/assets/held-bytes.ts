/** Room for files on their way, shared by all uploads. Who waits is served in order, so that a large file is not starved. */
export interface HeldBytes {
  /** Runs the work once there is room for so many bytes, which it has until it is over. */
  hold<T>(sizeBytes: number, work: () => Promise<T>): Promise<T>
}

export function createHeldBytes(bytesMax: number): HeldBytes {
  let heldBytes = 0
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
      try {
        return await work()
      } finally {
        heldBytes -= sizeBytes
        admit()
      }
    },
  }
}
