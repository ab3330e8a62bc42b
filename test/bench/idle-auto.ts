/**
 * What `idle: auto` saves and costs beside fixed idle times, on arrivals like those that "Serverless in the Wild"
 * (Shahrad et al., USENIX ATC 2020, §3) found with a provider. Virtual time; the histogram and the idle time are the
 * production's, evaluated once per request instead of by ticks (`test/sim/idle-policy.test.ts` holds the two equal).
 */
import { makeFunctionArrivals, PATTERNS, type FunctionArrivals } from '../sim/idle-arrivals.ts'
import { AutoIdle, FixedIdle, runIdlePolicy, type IdleOutcome, type IdlePolicy } from '../sim/idle-policy.ts'
import { Random } from '../sim/random.ts'
import { formatNumber, type BenchOptions, type Mark, type Report, type Table } from './report.ts'
import { quantile } from './statistics.ts'

const SEED = 2020
const HOUR_MS = 3_600_000

const POLICIES: readonly { readonly name: string; make(): IdlePolicy }[] = [
  { name: 'fixed 1 min', make: () => new FixedIdle(60_000) },
  { name: 'fixed 5 min', make: () => new FixedIdle(300_000) },
  { name: 'fixed 10 min', make: () => new FixedIdle(600_000) },
  { name: 'fixed 20 min', make: () => new FixedIdle(1_200_000) },
  { name: 'auto', make: () => new AutoIdle() },
]
const BASE = 'fixed 10 min'
/** About as many cold starts as `auto`: what they cost with a fixed time. */
const LONGER = 'fixed 20 min'

interface Outcome extends IdleOutcome {
  readonly pattern: FunctionArrivals['pattern']
}

// oxlint-disable-next-line require-await -- The runner awaits every bench; this one only computes.
export async function run(options: BenchOptions): Promise<Report> {
  const functions = options.quick ? 60 : 1_000
  const hours = options.quick ? 12 : 48
  const outcomes = new Map<string, Outcome[]>(POLICIES.map(({ name }) => [name, []]))
  const random = new Random(SEED)
  for (let index = 0; index < functions; index++) {
    if (index % 100 === 0) options.progress(`function ${index} of ${functions}`)
    const source = makeFunctionArrivals(random)
    for (const { name, make } of POLICIES) {
      // The same requests for each policy.
      const requests = source.requests(hours * HOUR_MS)
      outcomes
        .get(name)!
        .push({ pattern: source.pattern, ...runIdlePolicy(make(), requests, hours * HOUR_MS) })
    }
  }
  return {
    conditions: [
      `${functions} functions for ${hours} virtual hours, seed ${SEED}; cold: a request that finds no warm instance, first ones included; one instance each`,
      'mean rates from one request in ten days to 100 a second (8 orders of magnitude), log-linear between these: 45 % of functions at most once an hour, 81 % at most once a minute',
      'patterns: 35 % timers (1 min to 1 day, jitter of a second), 20 % Poisson, 15 % Poisson with a daily swing, 30 % bursts with heavy-tailed (Pareto 1.1) silences; rates above 1 a second are run at 1 a second, where no gap is long enough to matter',
      'requests last 0.6 s (median, log-normal); memory-time: how long an instance was there, busy or not',
    ],
    tables: [
      table('All functions', outcomes, () => true),
      ...PATTERNS.map((pattern) =>
        table(`Only ${pattern}`, outcomes, (outcome) => outcome.pattern === pattern),
      ),
    ],
    marks: options.quick ? [] : marks(outcomes),
  }
}

function table(
  title: string,
  outcomes: ReadonlyMap<string, readonly Outcome[]>,
  isIn: (outcome: Outcome) => boolean,
): Table {
  const base = sum(outcomes.get(BASE)!.filter(isIn), 'warmMs')
  return {
    title,
    columns: [
      'idle',
      'cold p75 %',
      'cold p50 %',
      'cold overall %',
      'always cold %',
      'instance-hours',
      `of ${BASE} %`,
    ],
    rows: POLICIES.map(({ name }) => {
      const list = outcomes.get(name)!.filter(isIn)
      const rates = list.filter(({ requests }) => requests > 0).map(coldPercent)
      const warmMs = sum(list, 'warmMs')
      return [
        name,
        formatNumber(quantile(rates, 0.75)),
        formatNumber(quantile(rates, 0.5)),
        ((100 * sum(list, 'cold')) / sum(list, 'requests')).toFixed(3),
        formatNumber((100 * rates.filter((rate) => rate === 100).length) / rates.length),
        formatNumber(warmMs / HOUR_MS),
        formatNumber((100 * warmMs) / base),
      ]
    }),
  }
}

function marks(outcomes: ReadonlyMap<string, readonly Outcome[]>): Mark[] {
  const p75 = (name: string): number =>
    quantile(
      outcomes
        .get(name)!
        .filter(({ requests }) => requests > 0)
        .map(coldPercent),
      0.75,
    )
  return [
    {
      promise: `auto: 75th percentile of cold rates, beside ${BASE}`,
      measured: p75('auto'),
      limit: p75(BASE),
      unit: '%',
    },
    {
      promise: `auto: cold starts of all requests, beside ${BASE}`,
      measured: sum(outcomes.get('auto')!, 'cold'),
      limit: sum(outcomes.get(BASE)!, 'cold'),
      unit: 'cold starts',
    },
    {
      promise: `auto: memory-time, beside ${LONGER}`,
      measured: sum(outcomes.get('auto')!, 'warmMs') / HOUR_MS,
      limit: sum(outcomes.get(LONGER)!, 'warmMs') / HOUR_MS,
      unit: 'instance-hours',
    },
  ]
}

function coldPercent({ cold, requests }: Outcome): number {
  return (100 * cold) / requests
}

function sum(list: readonly Outcome[], field: 'cold' | 'requests' | 'warmMs'): number {
  return list.reduce((total, outcome) => total + outcome[field], 0)
}
