/** What was made on the way to something that then failed, taken back in the opposite order. */
export interface Undo {
  add(step: () => Promise<unknown> | void): void
  /** Never rejects: each step is taken, whatever the others do. */
  run(): Promise<void>
}

export function createUndo(): Undo {
  const steps: (() => Promise<unknown> | void)[] = []
  return {
    add: (step) => void steps.push(step),
    async run() {
      for (const step of steps.splice(0).toReversed()) {
        try {
          await step()
        } catch {
          // What is left is cleared by the next agent, which finds it by its label or its directory.
        }
      }
    },
  }
}
