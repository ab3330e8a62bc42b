/** An agent that does nothing but hold a driver, to be killed: prints its instance as one JSON line, then waits. */
import { testDriver, versionOf } from './isolate-driver.ts'

const [runDirectory, isolationName, main, step] = process.argv.slice(2)
const { driver } = await testDriver({ runDirectory: runDirectory!, isolationName: isolationName! })
driver.keepBlanks(1)
if (step === 'starting') {
  void driver.start(versionOf({ main: main! })).catch(() => undefined)
  setTimeout(() => console.log(JSON.stringify({ pid: driver.blanks().at(0)?.pid ?? 0 })), 300)
} else {
  const { id, pid, socketPath } = await driver.start(versionOf({ main: main! }))
  console.log(JSON.stringify({ id, pid, socketPath }))
}
setInterval(() => undefined, 60_000)
