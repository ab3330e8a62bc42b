/**
 * An agent that does nothing but hold a container driver, to be killed: prints its instances as one JSON line, then
 * waits. Its Lambda process outlives it.
 */
import type { Instance } from '../../runtime/pool/driver.ts'
import { codeVersion, openContainerPlace, serverVersion } from './container-driver.ts'

const [directory, isolationName, what, text] = process.argv.slice(2)
const place = await openContainerPlace({ directory: directory!, isolationName: isolationName! })
const { driver } = place
const print = (instances: readonly Instance[]): void => {
  console.log(
    JSON.stringify(instances.map(({ id, pid, socketPath, freezer }) => ({ id, pid, socketPath, freezer }))),
  )
}

if (what === 'code') {
  driver.keepBlanks('nodejs24/256/64', 1)
  driver.keepBlanks('sandbox', 1)
  const instance = await driver.start(await codeVersion(text!), { memoryMib: 96, cpuMs: 700 })
  await place.blanks(2)
  print([instance])
} else if (what === 'server') {
  print([await driver.start(await serverVersion(place.engine, text!))])
} else if (what === 'starting') {
  void driver.start(await codeVersion(text!)).catch(() => undefined)
  while (driver.pids().length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  print([])
} else {
  const version = await codeVersion(text!)
  print(await Promise.all(Array.from({ length: Number(what) }, () => driver.start(version))))
}
setInterval(() => undefined, 60_000)
