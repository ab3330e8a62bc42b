import type { SnapshotFunction } from '../sdk/model/snapshot.ts'
import type { Admission } from '../runtime/pool/admission.ts'
import type { Occupancy } from '../runtime/pool/occupancy.ts'
import type { InstancePool } from '../runtime/pool/pool.ts'
import type { VersionMeter } from './metrics.ts'

/** All that a request needs of the version that answers it, found with one lookup. */
export interface ServedVersion {
  readonly functionName: string
  readonly versionId: string
  readonly pool: InstancePool
  readonly occupancy: Occupancy
  readonly meter: VersionMeter
  /** Of the function: its versions share it. */
  admission: Admission
  /** A function asked for its own static files: that is part of the request that it works on, and not counted again. */
  readonly isAside?: true
  /** In force now, also for requests that are under way. */
  limits: SnapshotFunction['limits']
  /** Somebody tails the function. */
  tailed: boolean
}
