/** Every bound of isola, by name. Units are last in the name. A test reaches each of them. */

const KIB = 1024
const MIB = 1024 * KIB

/** What a function may be made of. */
export const BUNDLE_LIMITS = {
  modulesBytesMax: 64 * MIB,
  modulesCountMax: 10_000,
  moduleNameBytesMax: 512,
  bindingsCountMax: 256,
  varBytesMax: 128 * KIB,
} as const

/** What the router accepts from a client and from an instance. */
export const ROUTER_LIMITS = {
  headerBytesMax: 16 * KIB,
  headersCountMax: 200,
  urlBytesMax: 8 * KIB,
  requestBodyBytesMax: 100 * MIB,
  responseHeadBytesMax: 64 * KIB,
  connectionsMax: 20_000,
  headersTimeoutMs: 15_000,
  requestTimeoutMs: 120_000,
  keepAliveTimeoutMs: 30_000,
  socketIdleTimeoutMs: 120_000,
  connectTimeoutMs: 2_000,
  responseTimeoutMs: 60_000,
  /** How long a failed attempt waits for the agent to name the cause of an instance's end. */
  causeWaitMs: 300,
  /** Requests of one instance's connection pool kept open when idle. */
  idleConnectionsPerInstanceMax: 64,
  logLinesBufferedMax: 10_000,
} as const

/** Control API. */
export const CONTROL_LIMITS = {
  jsonBytesMax: 8 * MIB,
  recentVersionsMax: 10,
  keptVersionsMax: 100,
  routesPerFunctionMax: 100,
  functionsMax: 10_000,
  logLinesPerReadMax: 10_000,
} as const

/** An instance's life. */
export const INSTANCE_LIMITS = {
  startTimeoutMs: 10_000,
  /** After the last response of a replaced or idle instance, `waitUntil` work may go on this long. */
  waitUntilMsMax: 30_000,
  drainTimeoutMs: 30_000,
  stopGraceMs: 5_000,
  memoryMibDefault: 128,
  memoryMibMin: 32,
  memoryMibMax: 16_384,
  cpuMsDefault: 10_000,
  cpuMsMax: 300_000,
  cpusDefault: 1,
  pidsMax: 64,
  openFilesMax: 8_192,
  logFileBytesMax: 16 * MIB,
  crashBackoffMsMin: 500,
  crashBackoffMsMax: 60_000,
} as const

/** Messages between the processes of a node. */
export const CHANNEL_LIMITS = {
  messageBytesMax: 64 * MIB,
  bufferedBytesMax: 64 * MIB,
} as const
