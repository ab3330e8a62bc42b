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

/** What becomes a bundle: a configuration file, a source tree, perhaps a command of its own. */
export const BUILD_LIMITS = {
  configBytesMax: MIB,
  configDepthMax: 64,
  diagnosticsCountMax: 10,
  filesScannedMax: 100_000,
  commandTimeoutMs: 600_000,
  commandOutputBytesMax: 64 * KIB,
} as const

/** The newest compatibility date that the workerd of `package.json` takes: seven days after its own. */
export const COMPATIBILITY_DATE_MAX = '2026-11-24'

/** What the router accepts from a client and from an instance. */
export const ROUTER_LIMITS = {
  headerBytesMax: 16 * KIB,
  headersCountMax: 200,
  urlBytesMax: 8 * KIB,
  /** Of a host name without port (RFC 1035 §2.3.4). */
  hostCharsMax: 253,
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
  /** Of a log line's path. */
  logPathCharsMax: 1_024,
  /** Places one request is tried at: only attempts that cannot have run are followed by another. */
  attemptsMax: 5,
  /** The start of a request body is kept this long for the next attempt. */
  heldBodyBytesMax: 64 * KIB,
  /** A body may take `requestTimeoutMs`, and one second more for each so many bytes that have come. */
  requestBodyBytesPerS: 32 * KIB,
  /** A connection closed before its request was read to the end drains this long, so that the answer arrives. */
  lingerMs: 2_000,
  /** A request that comes before the first snapshot waits for it this long. */
  firstSnapshotWaitMs: 10_000,
  /** A router that no agent has ever spoken to ends itself. */
  agentWaitMs: 60_000,
  /** Requests that wait for an instance, of all functions together. */
  waitingRequestsMax: 10_000,
  /** That the node has no place for another instance is believed this long after it was last said. */
  startDelayKeptMs: 3_000,
  /** The numbers of a version that is not live any more are kept this long, in case it comes back; below `goneCountersKeptMs`. */
  retiredMeterKeptMs: 600_000,
} as const

/** The same bounds with other numbers: tests and operators lower or raise them by name. */
export type RouterLimits = { readonly [Name in keyof typeof ROUTER_LIMITS]: number }

/** Static files of functions, as the router serves them. */
export const ASSET_LIMITS = {
  /** Files up to this size are kept in memory, of all functions together up to the other. */
  cachedFileBytesMax: MIB,
  cacheBytesMax: 32 * MIB,
  /** Of files above the size of a piece, whole on their way to clients; beyond it they go in pieces, too. */
  heldBytesMax: 32 * MIB,
  /** Larger files are read in pieces of this size, each when its client has taken the one before. */
  pieceBytes: 64 * KIB,
  /** Files of all manifests that are held compiled; beyond it the longest compiled are dropped. */
  compiledFilesMax: 1_000_000,
  /** Of `_headers` and `_redirects`, as Cloudflare has them; what is beyond is left out. */
  ruleLineCharsMax: 2_000,
  headerRulesMax: 100,
  staticRedirectsMax: 2_000,
  dynamicRedirectsMax: 100,
  /** Between two placeholders of one segment. */
  patternSeparatorCharsMax: 32,
  /** Of one header value after its placeholders were filled in. */
  headerValueCharsMax: 8_192,
  runWorkerFirstRulesMax: 100,
  /** Files that the agent writes at a time, and how soon it tries again what it could not get. */
  writesConcurrentMax: 16,
  retryMs: 5_000,
} as const

/** Control API. */
export const CONTROL_LIMITS = {
  /** How often a version is made again because a newer one came meanwhile, whose secrets it is to have. */
  keptSecretsAttemptsMax: 10,
  jsonBytesMax: 8 * MIB,
  /** Of a request's body; what a configuration may be (`configDepthMax`) fits in. */
  jsonDepthMax: 128,
  recentVersionsMax: 10,
  keptVersionsMax: 100,
  routesPerFunctionMax: 100,
  functionsMax: 10_000,
  logLinesPerReadMax: 10_000,
  logLinesPerReadDefault: 100,
  /** Kept for one slow reader of followed logs; beyond it the older half is dropped and the reader is told. */
  logBytesBufferedMax: 4 * MIB,
  /** An empty line keeps a quiet log stream alive: clients give up on a body that is silent for minutes. */
  logHeartbeatMs: 30_000,
  trafficSharesMax: 10,
  messageCharsMax: 1_000,
  compatibilityFlagsMax: 100,
  /** Changes of policy and limits that are kept, of each function and of the fleet. */
  settingChangesMax: 20,
  actorCharsMax: 200,
  usageSinceMsDefault: 24 * 3_600_000,
  /** Of what is pulled, and of what a registry is told: tokens are long. */
  imageReferenceCharsMax: 500,
  credentialCharsMax: 8_192,
  /** Blobs that a client uploads at a time. */
  uploadsConcurrentMax: 4,
} as const

/** What wrangler's API takes and gives, beside the bounds of the control API. */
export const WRANGLER_API_LIMITS = {
  /** Read and dropped of an upload that is refused already, so that its client hears why. */
  drainBytesMax: 128 * MIB,
  /** Of one part of a form. */
  partHeadersMax: 20,
  /** Messages and tags that are kept, of the newest versions of each function. */
  annotatedVersionsMax: 100,
  /** wrangler asks for every version of every deployment that it is told of. */
  deploymentsListedMax: 10,
  secretsPerCallMax: 100,
  dispatchNamespacesMax: 100,
  dispatchNamespaceCharsMax: 64,
  /** Of one request that sets routes or custom domains; a function has `routesPerFunctionMax` of both. */
  triggersPerCallMax: 1_000,
  /** Of a setting that isola keeps and does not read, as JSON. */
  keptJsonCharsMax: 4_096,
  /** Tries of a change that builds on the newest version, against others that make one. */
  newestVersionAttemptsMax: 8,
} as const

/** Static files of a version, and their way to the node. */
export const ASSET_UPLOAD_LIMITS = {
  filesMax: 20_000,
  fileBytesMax: 25 * MIB,
  pathBytesMax: 1_024,
  contentTypeCharsMax: 200,
  /** Of the list of files of one version: 20,000 with long paths. */
  manifestBytesMax: 16 * MIB,
  /** Of `_redirects` and of `_headers`. */
  rulesFileBytesMax: 512 * KIB,
  workerFirstRulesMax: 100,
  workerFirstRuleCharsMax: 100,
  /** What one request of an upload is asked to carry; a larger file goes alone. */
  bucketBytesMax: 8 * MIB,
  bucketFilesMax: 250,
  /** Of one request of an upload with many files in base64. */
  bulkRequestBytesMax: 64 * MIB,
  partHeadBytesMax: 8 * KIB,
  /** Held by all uploads together; the next file waits for room. */
  uploadBytesHeldMax: 40 * MIB,
  /** From the list of files to the last file, and as long from that to the version: what nobody names is kept an hour. */
  sessionMs: 1_750_000,
  /** Lists of files that are kept parsed. */
  sessionsKeptMax: 4,
  tokenCharsMax: 4_096,
} as const

/** Objects of a bucket and the registry on them. */
export const REGISTRY_LIMITS = {
  keyBytesMax: 512,
  objectBytesMax: 64 * MIB,
  /** Embedded driver: longer bodies are files, shorter ones rows. */
  inlineBytesMax: 64 * KIB,
  listPageMax: 1_000,
  /** Tries of one head swap against other writers. */
  swapAttemptsMax: 16,
  requestsConcurrentMax: 32,
  /** How long a start waits for a predecessor that is just ending to let go of the data directory. */
  lockWaitMs: 500,
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
  cpuMsMax: 3_600_000,
  cpusDefault: 1,
  /** What a new isolate is expected to take until it is measured, MiB: hello takes 9 when it starts, 15 under load. */
  reserveMib: 12,
  cpuWeightOrdinary: 100,
  /** Of a blank that is made, and of a start for the first moments: somebody waits for it, and it is short. */
  cpuWeightStarting: 1_000,
  startBoostMs: 250,
  pidsMax: 64,
  openFilesMax: 8_192,
  logFileBytesMax: 4 * MIB,
  /** Read from an instance's log file in one go; the rest waits for the next turn, so that a flood starves nobody. */
  logReadBytesMax: 256 * KIB,
  /** Encoded configs kept for repeated cold starts, all versions together. */
  configCacheBytesMax: 64 * MIB,
  blanksMax: 64,
  /** Between two blanks: starting one must not take the processor from an instance that starts. */
  blankSpacingMs: 15,
  blankAfterStartMs: 50,
  /** After a blank that ended by itself. */
  blankRetryMs: 1_000,
  controlTimeoutMs: 1_000,
  controlAnswerBytesMax: 64 * KIB,
  socketPathBytesMax: 107,
  /** How often an adopted instance, which is no child of this agent, is looked at. */
  exitPollMs: 100,
  /** Cgroups and directories of what ended are removed within this time; a process that is still exiting holds them. */
  removeTimeoutMs: 2_000,
  /**
   * Added to an instance's badness, in thousandths of the memory that ran out: the kernel ends it before the router or
   * the agent, and of instances those first whose function has more than its share.
   */
  oomScoreAdjust: 500,
  oomScoreAdjustFirst: 900,
  oomScoreAdjustLast: 100,
  sandboxTrialTimeoutMs: 10_000,
  uidsMax: 1_024,
  crashBackoffMsMin: 500,
  crashBackoffMsMax: 60_000,
} as const

/** Container functions. */
export const CONTAINER_LIMITS = {
  timeoutMsMin: 1_000,
  timeoutMsMax: 900_000,
  cpusMin: 0.1,
  cpusMax: 16,
  ephemeralStorageMibMin: 1,
  ephemeralStorageMibMax: 10_240,
  /** Of a request's and of a collected response's body, as AWS has it: 6 MiB and 100 bytes. */
  payloadBytesMax: 6 * MIB + 100,
  /** Of an event that waits to be worked on. */
  eventBytesMax: MIB,
  /** Of a zip archive, and of what it unpacks to, as AWS has it. */
  archiveBytesMax: 50 * MIB,
  unpackedBytesMax: 250 * MIB,
  archiveFilesMax: 50_000,
  /** Of an image as it arrives. */
  imageBytesMax: 10 * 1024 * MIB,
  buildTimeoutMs: 1_800_000,
  initTimeoutMs: 10_000,
  /** The refill of blanks after one was claimed: a start in a sandbox takes the engine so long. */
  blankAfterStartMs: 250,
  /** What a new container is expected to take until it is measured, MiB: an idle node runtime takes 20 to 40. */
  reserveMib: 48,
  pidsMax: 256,
  openFilesMax: 1_024,
  /** Of the engine's own copy of a container's output; isola reads it at once. */
  logFileBytesMax: 8 * MIB,
  logFilesMax: 2,
  /** Of `/dev/shm`, which is no larger than `/tmp`. */
  sharedMemoryMibMax: 64,
  /** Of one path in an archive. */
  archivePathBytesMax: 1_024,
  /** Unpacked code that nothing uses any more is kept this long. */
  codeGraceMs: 60_000,
  /** Of a sandbox's forwarder, which takes 7 MiB idle and 1.3 MiB for each response whose client is slower than it. */
  sandboxMemoryMib: 512,
  sandboxStartTimeoutMs: 10_000,
  /** How often a sandbox is asked whether something listens in it. */
  readinessPollMs: 3,
  /** Of one run of `iptables`, which waits for others to be done. */
  firewallTimeoutMs: 10_000,
} as const

/** Calls to the container engine, and what is kept of its answers. */
export const ENGINE_LIMITS = {
  /** Of one call with a short answer. A start on a busy machine takes seconds, a removal waits for the disk. */
  callTimeoutMs: 60_000,
  /** Until the engine must have said which version of its API it speaks. */
  greetingTimeoutMs: 5_000,
  /** An image on its way in or out. */
  transferTimeoutMs: 1_800_000,
  /** Of a short answer: the list of a thousand containers has 3 MB. */
  answerBytesMax: 32 * MIB,
  /** Of one line of a stream of JSON. */
  streamLineBytesMax: 4 * MIB,
  /** What an error quotes of the engine's own words. */
  messageLengthMax: 2_000,
  /** Calls at a time; streams that stay open are not among them. */
  callsConcurrentMax: 16,
  /** Between two attempts to follow the engine's events, and of a function's output. */
  reconnectMsMin: 50,
  reconnectMsMax: 2_000,
  /** Of one build, MiB: beyond it the build's process is ended, not its neighbours. */
  buildMemoryMib: 2_048,
  /** Of build and image text that waits for a slow client; beyond it the older half is dropped and the client is told. */
  textBytesBufferedMax: MIB,
  /** Of layers that builds left, kept for the next build. */
  buildCacheBytesMax: 4 * 1024 * MIB,
  /** An image that no version names is kept this long: its deploy may be on the way. */
  unusedImageKeptMs: 3_600_000,
  /** Of the small documents in an image archive (manifests, configurations), all together. */
  archiveDocumentsBytesMax: 16 * MIB,
} as const

/** What the Lambda API takes, as AWS's does where it can be told from outside. */
export const LAMBDA_API_LIMITS = {
  /** Of a request that carries code: base64 of the largest archive, and the fields around it. */
  codeRequestBytesMax: 70_167_211,
  /** Of a request for no operation there is. */
  unknownRequestBytesMax: 64 * KIB,
  clientContextBytesMax: 3_583,
  timeoutSMax: 900,
  memoryMibMin: 128,
  memoryMibMax: 10_240,
  ephemeralStorageMibMin: 512,
  ephemeralStorageMibMax: 10_240,
  environmentBytesMax: 4_096,
  descriptionCharsMax: 256,
  tagsMax: 50,
  aliasesMax: 100,
  publishedVersionsMax: 100,
  itemsPerPageMax: 50,
  /** Of a request's time against the node's. */
  clockSkewMsMax: 15 * 60_000,
  presignedSMax: 7 * 24 * 3_600,
  keysMax: 100,
  logTailBytesMax: 4 * KIB,
  /** How long the answer of an invocation waits for the last line of its log. */
  logTailWaitMs: 500,
  /** After REPORT and the last line: what a function wrote comes by the engine, and later. */
  logTailSettleMs: 60,
  /** A change that takes longer goes on after its answer, which then says `Pending` or `InProgress`. */
  changeWaitMs: 10_000,
  /** Changes that failed after their answer and are remembered for who asks. */
  failedChangesMax: 1_000,
} as const

/** The process in which invocations of protocol `lambda` live. */
export const LAMBDA_LIMITS = {
  /** JSON before the body of a streamed HTTP response. */
  preludeBytesMax: 64 * KIB,
  /** Open at a time, of one environment's runtime and extensions; the next is refused. */
  runtimeConnectionsMax: 128,
  /** Of one request of a runtime: AWS's clients put the cause of an error, up to 1 MiB, into a header. */
  runtimeHeadBytesMax: MIB + 64 * KIB,
  /** Of the head of a call; the router's own bound is lower. */
  callHeadBytesMax: 128 * KIB,
  /** Read and dropped of a body that nobody wants, so that its sender reads the answer; then the connection ends. */
  drainBytesMax: 128 * MIB,
  extensionsMax: 10,
  registerBytesMax: 64 * KIB,
  /** What extensions have from SHUTDOWN to their end. */
  shutdownMs: 2_000,
  /** Of one piece in a framed stream. */
  frameBytesMax: 64 * KIB,
  /** At its deadline a function that waits for a slow client loses the client, and has this long to end. */
  blockedGraceMs: 2_000,
  /** Of an error's type and message, in UTF-16 units, where they are told to the agent or logged. */
  errorTypeLengthMax: 256,
  errorTextLengthMax: 4_096,
  /** Kept while no agent is there; beyond it the oldest are dropped. */
  logLinesBufferedMax: 10_000,
  /** From the start of the helper that listens inside a namespace. */
  namespaceTimeoutMs: 10_000,
  /** How long the helper waits for an address that a process just ending still has. */
  addressWaitMs: 5_000,
  /** How often the process checks that its control socket is still its own. */
  orphanCheckMs: 2_000,
  /** A process that no agent has ever spoken to ends itself. */
  agentWaitMs: 60_000,
} as const

/** Events that are worked on later. */
export const ASYNC_LIMITS = {
  /** Of events that wait, of one function and of all. */
  eventsPerFunctionBytesMax: 256 * MIB,
  eventsBytesMax: 1024 * MIB,
  /** No event is taken that would leave less free on the disk: what is done with those that wait needs room, too. */
  freeDiskBytesMin: 64 * MIB,
  /** Counted beside its payload: a million empty events are no less of a burden. */
  eventOverheadBytes: 512,
  /** Tries at a time; a slow function does not hold back others. */
  triesPerFunctionConcurrentMax: 10,
  triesConcurrentMax: 200,
  /** Pause after a try that failed; it doubles with each. */
  retryMsMin: 60_000,
  retryMsMax: 900_000,
  /** Pause after a refusal, which is no try; it doubles with each in a row. */
  refusedMsMin: 500,
  refusedMsMax: 60_000,
  deadLettersPerFunctionMax: 1_000,
  deadLettersBytesMax: 512 * MIB,
  deadLettersKeptDays: 14,
  deadLettersPerReadDefault: 100,
  deadLettersPerReadMax: 1_000,
  /** Of what a function answered, kept with a dead letter. */
  answerBytesMax: 16 * KIB,
  reasonCharsMax: 1_000,
  /** Events that come within this time share one sync of the disk. */
  commitDelayMs: 2,
  /** Between two looks at what is too old, and two attempts at a disk that took nothing. */
  maintenanceMs: 60_000,
  repairMs: 1_000,
  /** How long a stop waits for tries under way; they are made again at the next start. */
  closeGraceMs: 5_000,
} as const

/** What a node keeps for itself. */
export const NODE_LIMITS = {
  /** Of one function's log file; beyond it the file takes the place of the one before, so twice this is kept. */
  logFileBytesMax: 16 * MIB,
  /** Log lines of all functions that are not on disk yet; beyond it lines are dropped and counted. */
  logBytesPendingMax: 8 * MIB,
  /** Of memory, MiB, that agent, router, egress proxy and the kernel keep: 215 when idle with the code they share. */
  reserveMib: 320,
  /** What instances may use together at the least. */
  budgetMibMin: 64,
  budgetCpusMin: 0.1,
} as const

/** What a node counts. */
export const USAGE_LIMITS = {
  /** Hours of usage that are kept. */
  keptDays: 400,
  /** Of one answer: functions × hours. */
  rowsPerReportMax: 100_000,
  /** Between what happens and its being on disk: told once a second, written every two. */
  lagS: 3,
  /** Counters of a version or function that is gone are forgotten when they stood still this long. */
  goneCountersKeptMs: 3_600_000,
} as const

/** What a function writes. */
export const OUTPUT_LIMITS = {
  /** Of one log line's message or stack, in UTF-16 units; what is longer is cut. */
  textLengthMax: 16_384,
  /** Of one line on an instance's output, as workerd encodes it. */
  lineBytesMax: 128 * KIB,
  /** Of what workerd itself said last, kept for the report of an instance's end. */
  lastErrorsLinesMax: 20,
  lastErrorsLengthMax: 4_096,
} as const

/** Who watches a function's requests as they come: `wrangler tail` and tail consumers. */
export const TAIL_LIMITS = {
  sessionsPerFunctionMax: 10,
  sessionsMax: 200,
  /** A session whose client does not connect within this time ends. */
  connectWaitMs: 60_000,
  sessionMsMax: 6 * 3_600_000,
  /** Of one message of a client, whole. */
  clientMessageBytesMax: 64 * KIB,
  /** Sent to a client and not yet taken; beyond it events are dropped, and the client is told. What one report brings fits. */
  bufferedBytesMax: 4 * MIB,
  pingMs: 30_000,
  /** A client that says nothing this long is gone. */
  silenceMsMax: 75_000,
  closeGraceMs: 2_000,
  /** Heads that the router keeps for the agent between two reports, which are 100 ms apart. */
  headsPerReportMax: 200,
  /** A request's event waits this long for lines that are still on their way, and for `waitUntil` work at most as long. */
  settleMs: 250,
  settleMsMax: 5_000,
  /** Lines of a request that does not end are told without it. */
  requestWaitMsMax: 900_000,
  /** Events of one function that are being put together; beyond it the oldest is dropped. */
  pendingEventsMax: 2_000,
  /** Of the lines of all of these, counted as text. */
  pendingTextMax: 8 * MIB,
  /** Of one event's lines, counted as text; what comes then is left out, and the event says so. */
  eventTextMax: 256 * KIB,
  eventLinesMax: 1_000,
  /** Requests whose events are sent, remembered to tell their late lines from those of others. */
  toldRequestsMax: 2_000,
  filtersMax: 20,
  filterTextCharsMax: 1_000,
  filterValuesMax: 100,
  /** Of one tail consumer. */
  consumersPerFunctionMax: 10,
  consumerQueueEventsMax: 1_000,
  consumerQueueTextMax: 16 * MIB,
  consumerBatchEventsMax: 100,
  /** Of one call's events as JSON; one event is sent whatever it has. */
  consumerBatchTextMax: 4 * MIB,
  consumerBatchMs: 500,
  consumerTimeoutMs: 30_000,
} as const

/** Messages between the processes of a node. */
export const CHANNEL_LIMITS = {
  messageBytesMax: 64 * MIB,
  bufferedBytesMax: 64 * MIB,
} as const

/** What an instance may send out through the egress proxy. */
export const EGRESS_LIMITS = {
  /** Requests, WebSockets and TCP connections of one instance that are open at a time; the next is refused. */
  requestsPerInstanceMax: 1_000,
  /** Kept-alive connections beyond those in use; above it all idle ones are closed. */
  idleConnectionsPerInstanceMax: 100,
  headBytesMax: 64 * KIB,
  headTimeoutMs: 60_000,
  /** Name lookup, TCP and TLS together. */
  connectTimeoutMs: 10_000,
  lookupTimeoutMs: 5_000,
  /** Lookups of one instance that run at a time; more wait. */
  lookupsPerInstanceMax: 8,
  /** A request on whose connection no byte moves this long fails. */
  idleTimeoutMs: 120_000,
  /** The same for WebSockets and TCP connections, which may rest longer. */
  tunnelIdleTimeoutMs: 600_000,
  /** An idle connection is kept this long, or as long as its server says if that is shorter. */
  keepAliveTimeoutMs: 4_000,
  ownAddressesAgeMsMax: 5_000,
  /** How often the process checks that its control socket is still its own. */
  orphanCheckMs: 2_000,
  /** Refusals of one instance that are logged in one window; the rest are counted. */
  logLinesPerWindowMax: 20,
  logWindowMs: 10_000,
  /** A request beyond what the reports allow so far waits for so many more of them, and this long, before it is refused. */
  subrequestHoldReportsMax: 3,
  subrequestHoldMs: 1_000,
  /** Calls of functions by functions that lead to one another; the next is refused, since it is probably a circle. */
  serviceDepthMax: 16,
  /** A service binding's props, as JSON in ASCII. */
  servicePropsBytesMax: 8 * KIB,
  /** A connection for calls of methods on which nobody waits for anything is closed. */
  rpcIdleMs: 1_000,
  /** How often the agent is told what went through. */
  trafficReportMs: 1_000,
  /** Functions whose sums are kept; beyond it those without an instance are forgotten, the oldest first. */
  trafficFunctionsMax: 20_000,
  /** Keys of rate-limit bindings that are counted, of all functions; about 200 bytes each. */
  rateLimitKeysMax: 50_000,
} as const
