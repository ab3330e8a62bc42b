import type { EGRESS_LIMITS } from '../../sdk/model/limits.ts'

/** `EGRESS_LIMITS`, or a test's smaller ones. */
export type EgressLimits = Readonly<Record<keyof typeof EGRESS_LIMITS, number>>
