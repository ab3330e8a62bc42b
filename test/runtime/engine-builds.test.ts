import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeEngine, openEngine, type EnginePlace } from '../harness/engine.ts'
import { inPieces, tarOf, type Files } from '../harness/image-archives.ts'

describeEngine('building from a Dockerfile', () => {
  let place: EnginePlace
  let from: string
  /** What nobody has built before. */
  const unique = randomBytes(8).toString('hex')
  beforeAll(async () => {
    place = await openEngine()
    await place.image()
    from = `FROM ${place.imageReference}`
  })
  afterAll(() => place.close())

  async function build(
    files: Files,
    options: {
      readonly timeoutMs?: number
      readonly dockerfile?: string
      readonly signal?: AbortSignal
    } = {},
    onText: (text: string) => void = () => undefined,
  ): Promise<string> {
    return await place.engine.buildImage({
      tar: inPieces(await tarOf(files)),
      labels: place.labels,
      timeoutMs: 60_000,
      onText,
      ...options,
    })
  }
  const layers = async (): Promise<readonly string[]> =>
    (await place.engine.listImages(place.labels))
      .flatMap(({ references }) => references)
      .filter((reference) => reference.startsWith('isola-build:'))

  test('the image has what its steps made, its labels and its command; the text of the steps is told', async () => {
    const texts: string[] = []
    const id = await build(
      {
        Dockerfile: `${from}\nCOPY a.txt /a.txt\nRUN echo "built ${unique}"\nENV A=b\nWORKDIR /work\nUSER 64000\nENTRYPOINT ["/bin/cat"]\nCMD ["/a.txt"]\n`,
        'a.txt': unique,
      },
      {},
      (text) => texts.push(text),
    )
    expect(texts.join('')).toContain(`built ${unique}`)
    expect(await place.engine.inspectImage(id)).toMatchObject({
      id,
      labels: place.labels,
      entryPoint: ['/bin/cat'],
      command: ['/a.txt'],
      workingDirectory: '/work',
      user: '64000',
      architecture: (await place.engine.info()).architecture,
    })
    expect((await place.engine.inspectImage(id))?.environment).toContain('A=b')
  })

  test('a Dockerfile elsewhere in the context is found', async () => {
    const id = await build(
      { 'deep/Own.dockerfile': `${from}\nENV B=c\n` },
      { dockerfile: 'deep/Own.dockerfile' },
    )
    expect((await place.engine.inspectImage(id))?.environment).toContain('B=c')
  })

  test('a step that fails fails the build with its command and status, after its output', async () => {
    const texts: string[] = []
    const failing = build(
      { Dockerfile: `${from}\nRUN echo before ${unique}; echo "what went wrong" >&2; exit 3\n` },
      {},
      (text) => texts.push(text),
    )
    await expect(failing).rejects.toMatchObject({
      code: 'build_failed',
      message: expect.stringMatching(/exit 3.*code: 3/s) as string,
    })
    expect(texts.join('')).toMatch(/what went wrong/)
  })

  test.for([
    ['a syntax error', { Dockerfile: 'FROMM x\n' }, /unknown instruction: FROMM/],
    ['no Dockerfile', { 'index.js': '' }, /Dockerfile/],
    ['an empty Dockerfile', { Dockerfile: '' }, /empty/],
    [
      'a base image that nobody has',
      { Dockerfile: 'FROM isola-nobody-has-this:1\n' },
      /isola-nobody-has-this/,
    ],
    ['a file that is not in the context', { Dockerfile: 'FROM scratch\nCOPY missing /x\n' }, /missing/],
  ] as const)('%s is an error of the build', async ([, files, message]) => {
    await expect(build(files)).rejects.toMatchObject({
      code: 'build_failed',
      message: expect.stringMatching(message) as string,
    })
  })

  test.for([
    ['nothing', Buffer.alloc(0)],
    ['no tar', Buffer.from('not a tar at all, whatever it is said to be')],
    ['a large body that is no tar', Buffer.alloc(8 * 1024 * 1024, 0x41)],
  ] as const)('a context that is %s is an error of the build', async ([, body]) => {
    const building = place.engine.buildImage({
      tar: inPieces(body, 64 * 1024),
      labels: place.labels,
      timeoutMs: 60_000,
      onText: () => undefined,
    })
    await expect(building).rejects.toMatchObject({ code: 'build_failed' })
  })

  test('a context that breaks off says why, in the words of its source', async () => {
    const whole = await tarOf({ Dockerfile: `${from}\n`, data: Buffer.alloc(1024 * 1024) })
    const building = place.engine.buildImage({
      tar: (async function* () {
        yield whole.subarray(0, 100_000)
        throw new Error('the client is gone')
      })(),
      labels: place.labels,
      timeoutMs: 60_000,
      onText: () => undefined,
    })
    await expect(building).rejects.toThrow('the client is gone')
  })

  test('a build that never ends is stopped, and its step with it', async () => {
    const endless = build({ Dockerfile: `${from}\nRUN echo ${unique}; sleep 10000\n` }, { timeoutMs: 2_000 })
    await expect(endless).rejects.toMatchObject({
      code: 'build_failed',
      message: expect.stringMatching(/did not end within 2 s/) as string,
    })
    await expect.poll(() => place.engine.listContainers(place.labels), { timeout: 20_000 }).toEqual([])
  })

  test('a build whose client goes away ends, and its step with it', async () => {
    const leaving = new AbortController()
    const endless = build(
      { Dockerfile: `${from}\nRUN echo begun ${unique}; sleep 10000\n` },
      { signal: leaving.signal },
      (text) => {
        if (text.startsWith(`begun`)) leaving.abort()
      },
    )
    await expect(endless).rejects.toThrow(/abort/i)
    await expect.poll(() => place.engine.listContainers(place.labels), { timeout: 20_000 }).toEqual([])
  })

  test('layers of stages and of failed builds are used again, and go when they are more than the bound', async () => {
    const steps = `${from} AS first\nRUN echo ${unique} > /one\n${from}\nRUN echo two ${unique} > /two\nCOPY --from=first /one /three\n`
    const texts: string[] = []
    await expect(build({ Dockerfile: `${steps}RUN exit 1\n` })).rejects.toMatchObject({
      code: 'build_failed',
    })
    expect((await layers()).length).toBeGreaterThanOrEqual(2)
    const id = await build({ Dockerfile: steps }, {}, (text) => texts.push(text))
    expect(texts.join('').match(/Using cache/g)?.length).toBeGreaterThanOrEqual(3)

    // Others build on this engine, too: only what was made here is looked at.
    await place.engine.pruneBuilds({ keepBytes: 64 * 1024 ** 3 })
    expect((await layers()).length).toBeGreaterThanOrEqual(2)
    await place.engine.pruneBuilds({ keepBytes: -1 })
    expect(await layers()).toEqual([])
    expect(await place.engine.inspectImage(id)).toBeDefined()
    expect(await place.engine.inspectImage(place.imageReference)).toBeDefined()
  })
})
