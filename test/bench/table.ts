/** How fast the route table compiles and answers, at the most functions a node may hold. */
import { CONTROL_LIMITS } from '../../sdk/model/limits.ts'
import { compileTable } from '../../router/table/table.ts'
import { aFunction, aSnapshot } from '../harness/snapshots.ts'
import type { BenchOptions, Mark, Report } from './report.ts'
import { formatMedian, median } from './statistics.ts'

const REQUESTS = [
  { name: 'exact host, whole host', host: 'shop77.example', target: '/index.html?x=1' },
  { name: 'exact host with 10,000 prefixes', host: 'api.example', target: '/function-5555/users/1?x' },
  { name: 'same, path not in normal form', host: 'api.example', target: '/x/%2e%2e/function-5555/users' },
  { name: 'wildcard host', host: 'a.b.tenant9.example', target: '/' },
  { name: '<function>.<base-domain>', host: 'function-777.localhost', target: '/' },
  { name: 'preview host', host: '90000777-function-777.localhost', target: '/' },
  { name: 'unknown host', host: 'nobody.invalid', target: '/' },
] as const

export async function run(options: BenchOptions): Promise<Report> {
  const count = options.quick ? 1_000 : CONTROL_LIMITS.functionsMax
  const rounds = options.quick ? 20_000 : 1_000_000
  const snapshot = aSnapshot(
    Array.from({ length: count }, (_, index) =>
      aFunction(`function-${index}`, {
        baseDomainHost: true,
        patterns: [`shop${index}.example/*`, `api.example/function-${index}/*`, `*.tenant${index}.example/*`],
        previewVersionIds: Array.from({ length: 10 }, (_, version) =>
          `${version}${String(index).padStart(7, '0')}`.padEnd(32, '0'),
        ),
      }),
    ),
  )
  const compileMs: number[] = []
  for (let repetition = 0; repetition < 7; repetition++) {
    options.progress(`compiling ${count} functions`)
    const beganMs = performance.now()
    compileTable(snapshot)
    compileMs.push(performance.now() - beganMs)
  }
  const table = compileTable(snapshot)
  const matchNs = REQUESTS.map(({ host, target }) => {
    options.progress(`matching ${host}${target}`)
    return [0, 1, 2, 3]
      .map(() => {
        const beganMs = performance.now()
        for (let round = 0; round < rounds; round++) table.match(host, target)
        return ((performance.now() - beganMs) * 1e6) / rounds
      })
      .slice(1)
  })
  const marks: Mark[] = [
    {
      promise: `compile ${count} functions with 3 routes each, warm`,
      measured: median(compileMs.slice(2)),
      limit: 100,
      unit: 'ms',
    },
    {
      promise: 'slowest match',
      measured: Math.max(...matchNs.map((list) => median(list))),
      limit: 1_000,
      unit: 'ns',
    },
  ]
  return {
    conditions: [
      `${count} functions, ${count * 3} routes, ${count * 10} preview hosts; first compile ${compileMs[0]!.toFixed(0)} ms (cold code)`,
    ],
    tables: [
      {
        title: 'One match',
        columns: ['request', 'ns'],
        rows: REQUESTS.map(({ name }, index) => [name, formatMedian(matchNs[index] ?? [])]),
      },
    ],
    marks,
  }
}
