/**
 * The drivers of a node as one: each call goes to the one of the version's kind. It is what lets the supervisor and the
 * planner ask for instances without a thought of what they are.
 */
import type { FunctionKind } from '../../sdk/model/function.ts'
import type { InstanceDriver } from '../pool/driver.ts'

export type DriverByKind = Readonly<Record<FunctionKind, InstanceDriver>>

export function joinDrivers(driverByKind: DriverByKind): InstanceDriver {
  const { worker } = driverByKind
  const all = Object.values(driverByKind)
  return {
    sandbox: worker.sandbox,
    limits: worker.limits,
    async adopt() {
      return (await Promise.all(all.map((driver) => driver.adopt()))).flat()
    },
    keepBlanks(blankClass, count) {
      // A class is known to one of them; the others have none of it.
      for (const driver of all) driver.keepBlanks(blankClass, count)
    },
    start: (version, options) => driverByKind[version.content.kind].start(version, options),
    foresee: (version) => driverByKind[version.kind].foresee(version),
    blanks: () => all.flatMap((driver) => driver.blanks()),
    pids: () => all.flatMap((driver) => driver.pids()),
    async close() {
      await Promise.all(all.map((driver) => driver.close()))
    },
  }
}
