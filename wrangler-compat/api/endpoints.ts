import type { Endpoints } from './endpoint.ts'

/** Everything wrangler's API answers; each table stands in the file of its subject. */
export const ENDPOINTS: readonly Endpoints[] = []
