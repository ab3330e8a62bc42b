import { createHash } from 'node:crypto'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { extract } from 'tar-stream'
import { describe, expect, test } from 'vitest'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { temporaryProject } from '../bundler/temporary-project.ts'
import { jsonLines, refusal, startFakeControl } from '../harness/fake-control.ts'
import { runIsola } from '../harness/node.ts'

const IMAGE_ID = `sha256:${'1a2b'.repeat(16)}`
const IMAGE = { imageId: IMAGE_ID, sizeBytes: 5_000_000, architecture: 'amd64' }
const HANDLER = {
  'index.mjs': 'export const handler = async () => 1',
  'isola.jsonc': JSON.stringify({
    name: 'greet',
    handler: 'index.handler',
    runtime: 'nodejs24',
    timeout: '5s',
    memoryMib: 256,
    vars: { A: '1' },
    routes: ['greet.example'],
  }),
}

const errorOf = (stdout: string): { code: string; message: string } =>
  (JSON.parse(stdout) as { error: { code: string; message: string } }).error

describe('deploying a handler directory', () => {
  test('sends its archive and says what it runs on; stdout is one document', async () => {
    const directory = temporaryProject(HANDLER)
    await using control = await startFakeControl()
    const { code, stdout, stderr } = await control.isola(['deploy', directory, '--json', '--message', 'why'])
    expect(stderr).toMatch(/^greet: nodejs24 index\.handler, archive [0-9a-f]{16}, \d+ B, 1 file\n$/)
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ functionName: 'greet', liveMs: 5, warnings: [] })
    const blob = control.requests.find(({ method }) => method === 'PUT')
    const sha256 = createHash('sha256')
      .update(blob?.body ?? '')
      .digest('hex')
    expect(blob?.path).toBe(`/v1/blobs/${sha256}`)
    expect(control.sent('POST /v1/functions/greet/deploy').json()).toEqual({
      kind: 'container',
      protocol: 'lambda',
      source: {
        type: 'code',
        runtime: 'nodejs24',
        handler: 'index.handler',
        archive: { sha256, sizeBytes: blob?.body.length },
      },
      bindings: [{ type: 'text', name: 'A', text: '1' }],
      limits: { memoryMib: 256 },
      settings: { timeoutMs: 5_000 },
      routes: [{ pattern: 'greet.example/*' }],
      baseDomainHost: true,
      previewHosts: true,
      message: 'why',
    })
  })

  test('sends the archive again where it was collected in between', async () => {
    const directory = temporaryProject(HANDLER)
    let refusals = 0
    await using control = await startFakeControl({
      'POST /v1/functions/greet/deploy': (request, response) => {
        refusals++
        refusal(409, 'blob_missing', 'it is not there')(request, response)
      },
    })
    const { code, stdout } = await control.isola(['deploy', directory, '--json'])
    expect([code, errorOf(stdout).code, refusals]).toEqual([1, 'blob_missing', 2])
  })

  test('without a node nothing is packed', async () => {
    const directory = temporaryProject({
      ...HANDLER,
      'package.json': '{"dependencies":{"gone":"file:gone"}}',
    })
    const { code, stderr } = await runIsola(['deploy', directory], { cwd: temporaryProject({}) })
    expect(code).toBe(3)
    expect(stderr).not.toContain('installing')
  })

  test('a dry run says what would be sent, the same each time, and sends nothing', async () => {
    const directory = temporaryProject(HANDLER)
    const [first, second, text] = await Promise.all([
      runIsola(['deploy', directory, '--dry-run', '--json']),
      runIsola(['deploy', '--dry-run', '--json'], { cwd: directory }),
      runIsola(['deploy', directory, '--dry-run', '--name', 'other']),
    ])
    expect(JSON.parse(first.stdout)).toMatchObject({
      functionName: 'greet',
      kind: 'container',
      protocol: 'lambda',
      source: { type: 'code', files: [{ name: 'index.mjs' }] },
      settings: { timeoutMs: 5_000 },
    })
    expect(second.stdout).toBe(first.stdout)
    expect(text.stdout).toMatch(/^other: nodejs24 index\.handler, .*nothing was sent\n$/)
  })

  test('a worker function of isola.jsonc is deployed as one, and a wrangler.jsonc beside it is not read', async () => {
    const directory = temporaryProject({
      'index.ts': 'export default { fetch: () => new Response() }',
      'isola.jsonc':
        '{ "name": "hello", "main": "index.ts", "compatibilityDate": "2026-11-01", "memoryMib": 64 }',
      'wrangler.jsonc': '{ "name": "other" }',
    })
    await using control = await startFakeControl()
    const { code, stdout } = await control.isola(['deploy', directory, '--json'])
    expect(code).toBe(0)
    const { warnings } = JSON.parse(stdout) as { warnings: string[] }
    expect(warnings).toEqual([
      'wrangler.jsonc is not read, because isola.jsonc comes first: remove one of them',
    ])
    expect(control.sent('POST /v1/functions/hello/deploy').json()).toMatchObject({
      kind: 'worker',
      mainModule: 'index.js',
      limits: { memoryMib: 64 },
    })
  })

  test.each([
    [['--compatibility-date', '2026-01-01'], '--compatibility-date is for worker functions'],
    [['--port', '80'], '--port goes with --image'],
    [['--username', 'me'], 'add --password-stdin'],
    [['--password-stdin'], 'add --username NAME'],
    [['--image', 'x', '--name', 'y'], 'give --image or a directory'],
  ])('%j is refused with exit code 2', async (flags, message) => {
    const { code, stderr } = await runIsola(['deploy', temporaryProject(HANDLER), '--dry-run', ...flags])
    expect(stderr).toContain(message)
    expect(code).toBe(2)
  })

  test('isola dev refuses it with the way out', async () => {
    const { code, stderr } = await runIsola(['dev', temporaryProject(HANDLER), '--port', '0'])
    expect(code).toBe(1)
    expect(stderr).toContain('"greet" is a container function, which needs a node')
  })
})

describe('deploying a Dockerfile', () => {
  const FILES = {
    'docker/app': 'FROM scratch',
    '.dockerignore': 'secret',
    secret: 'x',
    'isola.json': JSON.stringify({ name: 'app', dockerfile: 'docker/app', command: ['serve'], port: 3000 }),
  }

  test('sends its context, shows the build log on stderr line by line, and deploys the image', async () => {
    await using control = await startFakeControl({
      'POST /v1/images/build': jsonLines(
        { type: 'log', text: 'Step 1/1 : FROM scr' },
        { type: 'log', text: 'atch\n' },
        '',
        { type: 'log', text: '10%\r50%\r100%\r\n\u001b[32mdone\u001b[0m\u0007' },
        { type: 'image', image: IMAGE },
      ),
    })
    const { code, stdout, stderr } = await control.isola(['deploy', temporaryProject(FILES), '--json'])
    expect(code).toBe(0)
    expect(stderr.split('\n')).toEqual([
      'app: docker/app, 3 files, ' + stderr.match(/\d+ B to build from/)?.[0],
      'Step 1/1 : FROM scratch',
      '100%',
      'done',
      'image 1a2b1a2b1a2b, 4.8 MiB, amd64',
      '',
    ])
    expect(JSON.parse(stdout)).toMatchObject({ functionName: 'app' })
    const build = control.sent('POST /v1/images/build')
    expect(build.path).toBe('/v1/images/build?dockerfile=docker%2Fapp')
    const names: string[] = []
    const reader = extract()
    reader.end(build.body)
    for await (const entry of reader) {
      names.push(entry.header.name)
      entry.resume()
    }
    expect(names).toEqual(['.dockerignore', 'docker/', 'docker/app', 'isola.json'])
    expect(control.sent('POST /v1/functions/app/deploy').json()).toMatchObject({
      protocol: 'http',
      source: { type: 'image', imageId: IMAGE_ID, command: ['serve'] },
      settings: { port: 3000 },
    })
  })

  test('that does not build is exit code 1 with the log and the error, and nothing is deployed', async () => {
    const error = { code: 'build_failed', message: 'RUN make ended with exit code 2', requestId: 'r' }
    await using control = await startFakeControl({
      'POST /v1/images/build': jsonLines({ type: 'log', text: 'make: no rule' }, { type: 'error', error }),
    })
    const { code, stdout, stderr } = await control.isola(['deploy', temporaryProject(FILES), '--json'])
    expect(code).toBe(1)
    expect(stderr).toContain('make: no rule\nerror: RUN make ended with exit code 2')
    expect(errorOf(stdout)).toMatchObject({ code: 'build_failed' })
    expect(control.requests.map(({ path }) => path)).toEqual(['/v1/images/build?dockerfile=docker%2Fapp'])
  })

  test('on a node without an engine is exit code 3 with what it says', async () => {
    await using control = await startFakeControl({
      'POST /v1/images/build': refusal(503, 'engine_unavailable', 'no engine: start dockerd'),
    })
    const { code, stderr } = await control.isola(['deploy', temporaryProject(FILES)])
    expect(code).toBe(3)
    expect(stderr).toContain('error: no engine: start dockerd')
  })

  test('whose answer ends early is the node’s fault', async () => {
    await using control = await startFakeControl({
      'POST /v1/images/build': jsonLines({ type: 'log', text: 'Step 1' }),
    })
    const { code, stderr } = await control.isola(['deploy', temporaryProject(FILES)])
    expect(code).toBe(3)
    expect(stderr).toContain('the answer ended early')
  })

  test('a dry run counts what would be sent', async () => {
    const { stdout } = await runIsola(['deploy', temporaryProject(FILES), '--dry-run', '--json'])
    expect(JSON.parse(stdout)).toMatchObject({
      source: { type: 'dockerfile', dockerfile: 'docker/app', filesCount: 3, command: ['serve'] },
    })
  })

  test('a Dockerfile alone is refused with the configuration to write', async () => {
    const { code, stdout } = await runIsola(['deploy', temporaryProject({ Dockerfile: '' }), '--json'])
    // Before that, a node is looked for.
    expect(code).toBe(3)
    const dry = await runIsola(['deploy', temporaryProject({ Dockerfile: '' }), '--dry-run', '--json'])
    expect(errorOf(dry.stdout)).toMatchObject({
      code: 'config_not_found',
      message: expect.stringContaining('{ "name": "my-function", "dockerfile": true }'),
    })
    expect(stdout).not.toBe('')
  })
})

describe('deploying an image', () => {
  const withImage = { 'POST /v1/images/load': jsonLines({ type: 'image', image: IMAGE }) }

  test('of a tarball sends it as it is', async () => {
    const directory = temporaryProject({ 'app.tar.gz': 'the bytes' })
    await using control = await startFakeControl(withImage)
    const words = ['deploy', '--image', 'app.tar.gz', '--name', 'app', '--protocol', 'lambda']
    const { code } = await control.isola(words, { cwd: directory })
    expect(code).toBe(0)
    expect(control.sent('POST /v1/images/load').body.toString()).toBe('the bytes')
    expect(control.sent('POST /v1/functions/app/deploy').json()).toMatchObject({
      kind: 'container',
      protocol: 'lambda',
      source: { type: 'image', imageId: IMAGE_ID },
      settings: {},
    })
  })

  test('that is empty or too large is refused before it is sent', async () => {
    const directory = temporaryProject({ 'empty.tar': '', 'large.tar': '' })
    truncateSync(join(directory, 'large.tar'), CONTAINER_LIMITS.imageBytesMax + 1)
    await using control = await startFakeControl(withImage)
    const refused = async (image: string): Promise<string> => {
      const words = ['deploy', '--image', join(directory, image), '--name', 'app', '--json']
      const { code, stdout } = await control.isola(words)
      expect(code).toBe(1)
      return errorOf(stdout).code
    }
    expect([await refused('empty.tar'), await refused('large.tar')]).toEqual([
      'build_failed',
      'bundle_too_large',
    ])
    expect(control.requests).toEqual([])
  })

  test.each([
    [['--image', 'x'], '--image needs the name of the function: add --name NAME'],
    [['--image', 'gone.tar', '--name', 'x'], 'which is not a file'],
    [['--image', 'No Image', '--name', 'x'], 'or a reference such as'],
    [['--image', 'x', '--name', 'x', '--env', 'e'], '--env is about a configuration'],
    [['--image', 'x', '--name', 'x', '--protocol', 'grpc'], 'give lambda or http'],
    [['--image', 'x', '--name', 'x', '--port', 'p'], '--port is "p"'],
  ])('%j is refused with exit code 2', async (words, message) => {
    const { code, stderr } = await runIsola(['deploy', '--dry-run', ...words])
    expect(stderr).toContain(message)
    expect(code).toBe(2)
  })

  const pulled = async (
    reference: string,
    options: { config?: unknown; flags?: readonly string[]; input?: string },
  ): Promise<{ body: unknown; stderr: string }> => {
    const home = temporaryProject({})
    if (options.config !== undefined) {
      mkdirSync(join(home, '.docker'))
      const text = typeof options.config === 'string' ? options.config : JSON.stringify(options.config)
      writeFileSync(join(home, '.docker/config.json'), text)
    }
    await using control = await startFakeControl({
      'POST /v1/images/pull': jsonLines({ type: 'image', image: IMAGE }),
    })
    const words = ['deploy', '--image', reference, '--name', 'app', ...(options.flags ?? [])]
    const { stderr } = await control.isola(words, {
      env: { HOME: home, DOCKER_CONFIG: join(home, '.docker') },
      ...(options.input !== undefined && { input: options.input }),
    })
    const request = control.requests.find(({ path }) => path === '/v1/images/pull')
    return { body: request?.json(), stderr }
  }
  const auth = (text: string): { auth: string } => ({ auth: Buffer.from(text).toString('base64') })

  test.each([
    ['a registry that nothing is known of', 'registry.example/app:1', { auths: {} }, {}],
    ['no configuration of Docker', 'registry.example/app:1', undefined, {}],
    [
      'a registry by its host',
      'registry.example:5000/team/app',
      { auths: { 'registry.example:5000': auth('me:pass:word') } },
      { username: 'me', password: 'pass:word' },
    ],
    [
      'a registry by its URL',
      'registry.example/app',
      { auths: { 'https://registry.example/v2/': { username: 'me', password: 'p' } } },
      { username: 'me', password: 'p' },
    ],
    [
      'Docker Hub',
      'team/app',
      { auths: { 'https://index.docker.io/v1/': auth('me:p') } },
      { username: 'me', password: 'p' },
    ],
  ])('a pull from %s', async (_what, reference, config, credentials) => {
    const { body } = await pulled(reference, { config })
    expect(body).toEqual({ reference, ...credentials })
  })

  test('the name and the password that are given stand against those of Docker, and are shown nowhere', async () => {
    const { body, stderr } = await pulled('registry.example/app', {
      config: { auths: { 'registry.example': auth('other:x') } },
      flags: ['--username', 'me', '--password-stdin'],
      input: 'se cret\n',
    })
    expect(body).toEqual({ reference: 'registry.example/app', username: 'me', password: 'se cret' })
    expect(stderr).not.toContain('se cret')
    const empty = await pulled('a/b', { flags: ['--username', 'me', '--password-stdin'], input: '\n' })
    expect(empty.stderr).toContain('--password-stdin found nothing on stdin')
  })

  test('a credential helper is not run, and named', async () => {
    const { body, stderr } = await pulled('registry.example/app', { config: { credsStore: 'desktop' } })
    expect(body).toEqual({ reference: 'registry.example/app' })
    expect(stderr).toContain('keeps the credentials of registry.example in a helper ("desktop")')
  })

  test('a configuration of Docker that is damaged is named', async () => {
    const { body, stderr } = await pulled('registry.example/app', { config: '{' })
    expect(body).toBeUndefined()
    expect(stderr).toMatch(/config\.json cannot be used \(.*\): mend it/)
  })
})
