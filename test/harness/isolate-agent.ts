/** An agent that does nothing but hold a driver, to be killed: prints its instance as one JSON line, then waits. */
import { testDriver, versionOf } from './isolate-driver.ts'

const [runDirectory, isolationName, main, step] = process.argv.slice(2)
const { driver } = await testDriver({ runDirectory: runDirectory!, isolationName: isolationName! })
// A blank that waits when all else is done shows that the start has begun: it took the place of the one claimed.
const blankWaits = async (): Promise<void> => {
  while (driver.blanks().length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
}
driver.keepBlanks('worker', 1)
await blankWaits()
if (step === 'starting') {
  void driver.start(versionOf({ main: main! })).catch(() => undefined)
  while (driver.blanks().length > 0) await new Promise((resolve) => setImmediate(resolve))
  await blankWaits()
  console.log('{}')
} else {
  const { id, pid, socketPath, memoryMib, freezer } = await driver.start(versionOf({ main: main! }), {
    memoryMib: 96,
    cpuMs: 700,
  })
  await blankWaits()
  console.log(JSON.stringify({ id, pid, socketPath, memoryMib, freezer }))
}
setInterval(() => undefined, 60_000)
