import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { COMMANDS } from '../../sdk/cli/command-table.ts'
import { ISOLA_BIN, runIsola } from '../harness/node.ts'

let directory: string

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'isola-cli-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const errorOf = (stdout: string): { code: string; message: string } =>
  (JSON.parse(stdout) as { error: { code: string; message: string } }).error

describe('the command line', () => {
  test('the bin runs as a program through a symlink, and says its version', async () => {
    const link = join(directory, 'isola')
    symlinkSync(ISOLA_BIN, link)
    const { execFileSync } = await import('node:child_process')
    expect(execFileSync(link, ['--version'], { encoding: 'utf8' })).toMatch(/^\d+\.\d+\.\d+\n$/)
    const { stdout } = await runIsola(['--version', '--json'])
    expect(JSON.parse(stdout)).toEqual({ version: expect.stringMatching(/^\d+\.\d+\.\d+$/) })
  })

  test('every command is in the overview, and has help with flags and examples', async () => {
    const { stdout, code } = await runIsola([])
    expect(code).toBe(0)
    const documents = JSON.parse((await runIsola(['help', '--json'])).stdout) as {
      commands: { name: string }[]
    }
    expect(documents.commands.map(({ name }) => name)).toEqual(COMMANDS.map(({ name }) => name))
    for (const { name, examples, flags } of COMMANDS) {
      expect(stdout).toContain(`  ${name} `)
      expect(examples.length, name).toBeGreaterThan(0)
      expect(Object.keys(flags), name).toContain('json')
    }
    const help = await runIsola(['deploy', '--help'])
    expect(help.code).toBe(0)
    expect(help.stdout).toContain('--dry-run')
    expect(help.stdout).toContain('Examples:')
    expect((await runIsola(['help', 'deploy'])).stdout).toBe(help.stdout)
  })

  test.each([
    ['an unknown command', ['depoly'], 'isola has no command "depoly": did you mean "deploy"?'],
    ['an unknown flag', ['list', '--jsno'], 'isola list has no flag --jsno: did you mean --json?'],
    ['a flag before the command', ['--data', 'x', 'list'], 'flags stand after it'],
    ['a flag without its value', ['list', '--data'], '--data needs a value: --data DIR'],
    ['a value for a flag that takes none', ['list', '--json=1'], '--json takes no value'],
    ['a word too many', ['list', 'what'], 'isola list does not know what to do with "what"'],
    ['a word too few', ['versions'], 'isola versions needs more: isola versions FN'],
    ['help for what there is not', ['help', 'depoly'], 'did you mean "deploy"?'],
    ['an address without a port', ['up', '--http', 'localhost'], '--http is "localhost": give HOST:PORT'],
    ['a port out of range', ['up', '--control', '127.0.0.1:70000'], 'give HOST:PORT'],
    ['a base domain with a port', ['up', '--base-domain', 'a.example:80'], 'give a domain without port'],
    ['a network that is none', ['up', '--allow-egress', '10.0.0.0'], 'give a network, e.g. 10.1.0.0/16'],
    ['an unknown sandbox', ['up', '--sandbox', 'unshar'], 'did you mean unshare?'],
    ['a share without a percentage', ['traffic', 'fn', '1a2b3c4d'], 'write VERSION=PERCENT'],
    ['an unknown routes action', ['routes', 'ad', 'a', 'b'], 'did you mean "add"?'],
    ['a route without its function', ['routes', 'add', 'a.example'], 'isola routes add PATTERN FN'],
    ['a time without a unit', ['scale', 'fn', '--idle', '5'], 'give a time with its unit'],
    ['a count that is none', ['scale', 'fn', '--min', 'two'], '--min is "two": give a whole number'],
    ['more log lines than are kept', ['logs', 'fn', '--lines', '10001'], 'at most 10000 are kept'],
    ['a deletion that nobody can confirm', ['delete', 'fn'], 'needs --yes'],
    ['a control URL that is none', ['list', '--control', 'localhost:1'], '--control is "localhost:1"'],
    ['a port of dev that is none', ['dev', '--port', 'x'], '--port is "x"'],
  ])('%s is refused with exit code 2 and the way out', async (_what, words, message) => {
    const { code, stderr, stdout } = await runIsola(words, { cwd: directory })
    expect(stderr).toContain(message)
    expect(code).toBe(2)
    expect(stdout).toBe('')
  })

  test('under --json an error is one document on stdout, and text on stderr', async () => {
    const { code, stdout, stderr } = await runIsola(['nonsense', '--json'])
    expect(code).toBe(2)
    expect(errorOf(stdout)).toMatchObject({ code: 'usage', message: expect.stringContaining('nonsense') })
    expect(stderr).toContain('error: isola has no command "nonsense"')
  })
})

describe('finding a node', () => {
  test('without one, exit code 3 and how to start one', async () => {
    const { code, stdout, stderr } = await runIsola(['list', '--json'], { cwd: directory })
    expect(code).toBe(3)
    expect(errorOf(stdout).code).toBe('node_unreachable')
    expect(stderr).toContain(`no node is running on ${join(directory, '.isola')}: start one with "isola up"`)
  })

  test('what a dead node left behind is not a node', async () => {
    const data = join(directory, 'left')
    mkdirSync(data)
    // Process ids end at 2^22.
    writeFileSync(
      join(data, 'node.json'),
      JSON.stringify({ pid: 4_194_999, httpUrl: 'http://x', controlUrl: 'http://x' }),
    )
    const { code, stderr } = await runIsola(['list', '--data', data])
    expect(code).toBe(3)
    expect(stderr).toContain(`start one with "isola up --data ${data}"`)
  })

  test('a node.json that is damaged is named', async () => {
    const data = join(directory, 'damaged')
    mkdirSync(data)
    writeFileSync(join(data, 'node.json'), '{"pid":')
    const { code, stderr } = await runIsola(['list', '--data', data])
    expect(code).toBe(3)
    expect(stderr).toContain(`${join(data, 'node.json')} is not JSON`)
  })

  test('a control URL needs a token, and says where it is', async () => {
    const { code, stderr } = await runIsola(['list'], {
      env: { ISOLA_CONTROL_URL: 'http://127.0.0.1:1', ISOLA_TOKEN: '' },
    })
    expect(code).toBe(1)
    expect(stderr).toContain('no token for http://127.0.0.1:1: set ISOLA_TOKEN')
  })

  test('a control URL where nobody answers is exit code 3', async () => {
    const { code, stdout } = await runIsola(['status', '--control', 'http://127.0.0.1:1', '--json'], {
      env: { ISOLA_TOKEN: 'token' },
    })
    expect(code).toBe(3)
    expect(errorOf(stdout)).toMatchObject({
      code: 'node_unreachable',
      message: expect.stringContaining('127.0.0.1:1'),
    })
  })
})

describe('deploy --dry-run', () => {
  const write = (name: string, config: unknown, source: string): string => {
    const path = join(directory, name)
    mkdirSync(path)
    writeFileSync(join(path, 'wrangler.json'), JSON.stringify(config))
    writeFileSync(join(path, 'index.js'), source)
    return path
  }
  const config = { name: 'dry', main: 'index.js', compatibility_date: '2026-11-01' }

  test('bundles without a node, the same bytes each time', async () => {
    const path = write('dry', config, 'export default { fetch: () => new Response("dry") }')
    const [first, second] = await Promise.all([
      runIsola(['deploy', path, '--dry-run', '--json']),
      runIsola(['deploy', '--dry-run', '--json'], { cwd: path }),
    ])
    expect(first.code).toBe(0)
    expect(JSON.parse(first.stdout)).toMatchObject({
      functionName: 'dry',
      digest: expect.stringMatching(/^[0-9a-f]{64}$/),
      warnings: [],
    })
    expect(second.stdout).toBe(first.stdout)
  })

  test('a directory without a configuration is refused by name', async () => {
    const path = join(directory, 'nothing')
    mkdirSync(path)
    const { code, stdout } = await runIsola(['deploy', path, '--dry-run', '--json'])
    expect(code).toBe(1)
    expect(errorOf(stdout)).toMatchObject({
      code: 'config_not_found',
      message: expect.stringContaining(path),
    })
  })

  test('a syntax error shows its file and line, and is exit code 1', async () => {
    const path = write('broken', config, 'export default {\n  fetch( { }\n}')
    const { code, stdout, stderr } = await runIsola(['deploy', path, '--dry-run', '--json'])
    expect(code).toBe(1)
    expect(errorOf(stdout).code).toBe('build_failed')
    expect(stderr).toMatch(/index\.js:3:1: /)
  })

  test('a warning of the configuration is on stderr, and in the document', async () => {
    const path = write(
      'warned',
      { ...config, logpush: true },
      'export default { fetch: () => new Response() }',
    )
    const { code, stdout, stderr } = await runIsola(['deploy', path, '--dry-run', '--json'])
    expect(code).toBe(0)
    const { warnings } = JSON.parse(stdout) as { warnings: string[] }
    expect(warnings).toEqual([expect.stringContaining('logpush')])
    expect(stderr).toContain(`warning: ${warnings[0]}`)
  })
})

describe('doctor', () => {
  test('looks at the machine, and fails on a port that is taken', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    try {
      const { code, stdout } = await runIsola([
        'doctor',
        '--http',
        `127.0.0.1:${port}`,
        '--data',
        join(directory, 'd'),
        '--json',
      ])
      const { ok, checks } = JSON.parse(stdout) as {
        ok: boolean
        checks: { check: string; result: string; message: string }[]
      }
      const names = checks.map(({ check }) => check)
      expect(names).toContain('engine')
      expect(names.filter((name) => !name.startsWith('engine'))).toEqual([
        'node',
        'workerd',
        'cgroups',
        'sandbox',
        'data',
        'disk',
        'ports',
        'clock',
      ])
      expect(checks.find(({ check }) => check === 'ports')).toMatchObject({
        result: 'fail',
        message: expect.stringContaining(`cannot listen on 127.0.0.1:${port} (EADDRINUSE)`),
      })
      expect(checks.find(({ check }) => check === 'workerd')?.result).toBe('ok')
      expect(ok).toBe(false)
      expect(code).toBe(1)
    } finally {
      server.close()
    }
  })

  test('fails on a data directory that is a file', async () => {
    const file = join(directory, 'file')
    writeFileSync(file, '')
    const { code, stdout } = await runIsola([
      'doctor',
      '--data',
      file,
      '--http',
      '127.0.0.1:0',
      '--control',
      '127.0.0.1:0',
    ])
    expect(code).toBe(1)
    expect(stdout).toMatch(/data\s+fail\s+.*is no directory/)
  })
})
