/**
 * The Prometheus text, by prom-client: names, types, label sets and escaping are its affair. A registry is made for each
 * rendering, because every value is known already and nothing has to be taken back.
 *
 * Histograms arrive as counts by bucket, and prom-client's `observe` takes single values only. It does sum up what
 * other processes of a cluster counted (`AggregatorRegistry.aggregate`); the router is such a process.
 *
 * prom-client's default metrics are left out: they keep a timer of 10 ms and a GC observer running.
 */
import { setImmediate } from 'node:timers/promises'
import type * as prometheus from 'prom-client'
import { LATENCY_BUCKETS_S, type Histogram, type VersionMetrics } from '../../sdk/model/router-metrics.ts'
import type { MetricsState, NodeGauges } from './node-metrics.ts'

type Labels = Readonly<Record<string, string | number>>
type Sample = readonly [Labels, number]

interface Definition {
  readonly name: string
  readonly help: string
  readonly labels: readonly string[]
}

export async function renderMetrics(
  state: MetricsState,
): Promise<{ readonly contentType: string; readonly text: string }> {
  // Loaded with the first scrape: 20 MB that a node without Prometheus does not need.
  const client = await import('prom-client')
  const registry = new client.Registry()
  const metrics = new MetricWriter(client, registry)
  writeRouted(metrics, state)
  writeInstances(metrics, state)
  writeScaling(metrics, state.gauges)
  writeEgress(metrics, state)
  writeEvents(metrics, state)
  writeNode(metrics, state)
  const texts = [await registry.metrics()]
  for (const histogram of HISTOGRAMS) {
    // A thousand versions are 17,000 lines each: the agent looks after its instances in between, and holds them once.
    await setImmediate()
    const json = toAggregatable(histogram, state.routed)
    texts.push(await client.AggregatorRegistry.aggregate([[json]]).metrics())
  }
  return { contentType: registry.contentType, text: texts.join('\n') }
}

class MetricWriter {
  readonly #client: typeof prometheus
  readonly #registers: prometheus.Registry[]

  constructor(client: typeof prometheus, registry: prometheus.Registry) {
    this.#client = client
    this.#registers = [registry]
  }

  counter(definition: Definition, samples: Iterable<Sample>): void {
    const counter = new this.#client.Counter(this.#configuration(definition))
    for (const [labels, value] of samples) counter.inc(labels, value)
  }

  /** Samples of the same labels are summed up. */
  gauge(definition: Definition, samples: Iterable<Sample>): void {
    const gauge = new this.#client.Gauge(this.#configuration(definition))
    for (const [labels, value] of samples) gauge.inc(labels, value)
  }

  #configuration({ name, help, labels }: Definition): {
    name: string
    help: string
    labelNames: readonly string[]
    registers: prometheus.Registry[]
  } {
    return { name: `isola_${name}`, help, labelNames: labels, registers: this.#registers }
  }
}

const VERSION = ['function', 'version'] as const

function labelsOf({ functionName, versionId }: { functionName: string; versionId: string }): Labels {
  return { function: functionName, version: versionId }
}

function writeRouted(metrics: MetricWriter, { routed, unrouted, connections }: MetricsState): void {
  metrics.counter(
    {
      name: 'requests_total',
      help: 'Requests answered, by status; cold: an instance was started for it. Refusals are among them.',
      labels: [...VERSION, 'status', 'cold'],
    },
    routed.flatMap((version) =>
      version.requests.map(({ status, cold, count }): Sample => [
        { ...labelsOf(version), status, cold: String(cold) },
        count,
      ]),
    ),
  )
  const byReason = (of: (version: VersionMetrics) => VersionMetrics['refusals']): Sample[] =>
    routed.flatMap((version) =>
      of(version).map(({ code, count }): Sample => [{ function: version.functionName, reason: code }, count]),
    )
  metrics.counter(
    {
      name: 'refusals_total',
      help: 'Requests refused before an instance had them, by error code.',
      labels: ['function', 'reason'],
    },
    byReason(({ refusals }) => refusals),
  )
  metrics.counter(
    {
      name: 'errors_total',
      help: 'Requests that an instance had and isola answered in its place or broke off, by error code.',
      labels: ['function', 'reason'],
    },
    byReason(({ errors }) => errors ?? []),
  )
  metrics.counter(
    {
      name: 'unrouted_total',
      help: 'Requests refused before there was a function: no route, malformed and so on.',
      labels: ['reason'],
    },
    Object.entries(unrouted).map(([reason, count]): Sample => [{ reason }, count]),
  )
  const perVersion = (name: string, help: string, valueOf: (version: VersionMetrics) => number): void =>
    metrics.counter(
      { name, help, labels: VERSION },
      routed.map((version): Sample => [labelsOf(version), valueOf(version)]),
    )
  perVersion('cold_starts_total', 'Requests that an instance was started for.', (each) => each.coldStarts)
  perVersion('request_bytes_total', 'Bodies received from clients.', (each) => each.requestBytes)
  perVersion('response_bytes_total', 'Bodies sent to clients.', (each) => each.responseBytes)
  metrics.gauge(
    { name: 'router_connections', help: 'Client connections that are open at the router.', labels: [] },
    [[{}, connections]],
  )
}

function writeInstances(metrics: MetricWriter, { gauges, cpu, ends }: MetricsState): void {
  const { processes, scaling } = gauges.status
  const instances = processes.filter(({ role }) => role === 'instance')
  const instanceLabels = (process: (typeof instances)[number]): Labels =>
    labelsOf({ functionName: process.function ?? '', versionId: process.version ?? '' })
  metrics.gauge({ name: 'instances', help: 'Instances, by state.', labels: [...VERSION, 'state'] }, [
    ...instances.map((each): Sample => [{ ...instanceLabels(each), state: each.state }, 1]),
    // Those that are being started are no processes of the version yet.
    ...scaling
      .filter(({ starting }) => starting > 0)
      .map((each): Sample => [{ ...labelsOf(each), state: 'starting' }, each.starting]),
  ])
  metrics.gauge(
    {
      name: 'instance_memory_bytes',
      help: 'Memory that the instances of a version use together.',
      labels: VERSION,
    },
    instances.map((each): Sample => [instanceLabels(each), each.memoryBytes]),
  )
  metrics.counter(
    { name: 'instance_cpu_seconds_total', help: 'User and system time of all instances.', labels: VERSION },
    cpu.map((each): Sample => [labelsOf(each), each.cpuMs / 1_000]),
  )
  metrics.counter(
    {
      name: 'instance_ends_total',
      help: 'Instances that ended, by cause; "stopped" is ordinary, every other cause is a fault.',
      labels: ['function', 'cause'],
    },
    [...ends].flatMap(([name, byCause]) =>
      [...byCause].map(([cause, count]): Sample => [{ function: name, cause }, count]),
    ),
  )
  metrics.gauge({ name: 'blanks', help: 'Empty instances that wait to be claimed.', labels: [] }, [
    [{}, processes.filter(({ role }) => role === 'blank').length],
  ])
}

function writeScaling(metrics: MetricWriter, { status, versions }: NodeGauges): void {
  metrics.gauge(
    {
      name: 'slots',
      help: 'Requests that the running instances of a version can work on at a time: used and free.',
      labels: [...VERSION, 'state'],
    },
    versions.flatMap((each): Sample[] => [
      [{ ...labelsOf(each), state: 'used' }, each.used],
      [{ ...labelsOf(each), state: 'free' }, each.free],
    ]),
  )
  metrics.gauge(
    { name: 'queue_depth', help: 'Requests that wait for a slot.', labels: ['function'] },
    versions.map((each): Sample => [{ function: each.functionName }, each.queued]),
  )
  metrics.gauge(
    { name: 'desired_instances', help: 'Instances that the scaling policy wants.', labels: VERSION },
    status.scaling.map((each): Sample => [labelsOf(each), each.desired]),
  )
  metrics.gauge(
    {
      name: 'concurrency',
      help: 'Mean requests in flight and waiting, over the stable and the panic window of the scaling policy.',
      labels: [...VERSION, 'window'],
    },
    status.scaling.flatMap((each): Sample[] => [
      [{ ...labelsOf(each), window: 'stable' }, each.stableConcurrency],
      [{ ...labelsOf(each), window: 'panic' }, each.panicConcurrency],
    ]),
  )
  metrics.gauge(
    {
      name: 'scaling_reason',
      help: 'Why as many instances are desired: 1 for the reason in force. Numbers are left out (#): see isola scale.',
      labels: [...VERSION, 'reason'],
    },
    // With its numbers each would be a series of its own.
    status.scaling.map((each): Sample => [
      { ...labelsOf(each), reason: each.reason.replaceAll(/\d+(?:\.\d+)?/g, '#') },
      1,
    ]),
  )
}

function writeEgress(metrics: MetricWriter, { egress }: MetricsState): void {
  const perFunction = (name: string, help: string, sum: string): void =>
    metrics.counter(
      { name, help, labels: ['function'] },
      [...egress].map(([functionName, sums]): Sample => [{ function: functionName }, sums[sum] ?? 0]),
    )
  perFunction('egress_requests_total', 'Requests and connections of functions to the outside.', 'requests')
  perFunction('egress_refusals_total', 'Of these, refused by the rules or the subrequest limit.', 'refused')
  metrics.counter(
    {
      name: 'egress_bytes_total',
      help: 'What functions sent (out) and received (in) through the egress proxy.',
      labels: ['function', 'direction'],
    },
    [...egress].flatMap(([functionName, { bytesOut = 0, bytesIn = 0 }]): Sample[] => [
      [{ function: functionName, direction: 'out' }, bytesOut],
      [{ function: functionName, direction: 'in' }, bytesIn],
    ]),
  )
}

function writeEvents(metrics: MetricWriter, { gauges }: MetricsState): void {
  const { events } = gauges.status
  metrics.gauge(
    {
      name: 'events_waiting',
      help: 'Events that wait to be worked on, or are being tried.',
      labels: ['function'],
    },
    events.map(({ functionName, waiting }): Sample => [{ function: functionName }, waiting]),
  )
  metrics.gauge(
    { name: 'dead_letters', help: 'Events that failed for good, and are kept.', labels: ['function'] },
    events.map(({ functionName, dead }): Sample => [{ function: functionName }, dead]),
  )
}

function writeNode(metrics: MetricWriter, { gauges }: MetricsState): void {
  const { budget, processes, version } = gauges.status
  const gauge = (name: string, help: string, value: number): void =>
    metrics.gauge({ name, help, labels: [] }, [[{}, value]])
  gauge(
    'node_memory_budget_bytes',
    'Memory that instances and blanks may use together.',
    budget.memoryMib * 1024 * 1024,
  )
  gauge(
    'node_memory_used_bytes',
    'Memory that instances and blanks use.',
    processes
      .filter(({ role }) => role === 'instance' || role === 'blank')
      .reduce((sum, { memoryBytes }) => sum + memoryBytes, 0),
  )
  gauge('node_cpu_budget_cores', 'Processor cores that instances may use together.', budget.cpus)
  const own = processes.filter(({ role }) => role !== 'instance' && role !== 'blank')
  metrics.counter(
    {
      name: 'process_cpu_seconds_total',
      help: "User and system time of the node's own processes.",
      labels: ['process'],
    },
    own.map((each): Sample => [{ process: each.role }, each.cpuMs / 1_000]),
  )
  metrics.gauge(
    {
      name: 'process_resident_memory_bytes',
      help: "Resident memory of the node's own processes.",
      labels: ['process'],
    },
    own.map((each): Sample => [{ process: each.role }, each.memoryBytes]),
  )
  metrics.gauge({ name: 'build_info', help: 'Always 1; the release of isola.', labels: ['version'] }, [
    [{ version }, 1],
  ])
}

interface HistogramDefinition {
  readonly name: string
  readonly help: string
  of(version: VersionMetrics): Histogram
}

const HISTOGRAMS: readonly HistogramDefinition[] = [
  {
    name: 'isola_request_duration_seconds',
    help: 'From the head of a request to the end of its response.',
    of: (version) => version.total,
  },
  {
    name: 'isola_queue_duration_seconds',
    help: 'Waiting for a slot, cold starts left out.',
    of: (version) => version.queue,
  },
  {
    name: 'isola_cold_start_duration_seconds',
    help: 'Waiting for a slot, of requests that an instance was started for.',
    of: (version) => version.coldStart,
  },
  {
    name: 'isola_function_duration_seconds',
    help: 'From getting a slot to the end of the response.',
    of: (version) => version.function,
  },
]

/** As `getMetricsAsJSON` of another process has it: buckets are cumulative, up to `+Inf`. */
function toAggregatable({ name, help, of }: HistogramDefinition, routed: readonly VersionMetrics[]): object {
  const values = routed.flatMap((version) => {
    const { counts, sumS } = of(version)
    const labels = labelsOf(version)
    let below = 0
    const buckets = counts.map((count, index) => {
      below += count
      return {
        metricName: `${name}_bucket`,
        labels: { ...labels, le: LATENCY_BUCKETS_S[index] ?? '+Inf' },
        value: below,
      }
    })
    if (below === 0) return []
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels, value: sumS },
      { metricName: `${name}_count`, labels, value: below },
    ]
  })
  return { name, help, type: 'histogram', aggregator: 'sum', values }
}
