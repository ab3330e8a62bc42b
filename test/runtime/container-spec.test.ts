import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  containerSpec,
  containerUser,
  type ContainerSpecOptions,
} from '../../runtime/container/container-spec.ts'
import { CONTAINER_LIMITS } from '../../sdk/model/limits.ts'
import { describeEngine, openEngine, type EnginePlace } from '../harness/engine.ts'

describe('the user of a container', () => {
  test.each([
    ['', '64000:64000'],
    ['root', '64000:64000'],
    ['node', '64000:64000'],
    ['0', '64000:64000'],
    ['00', '64000:64000'],
    ['0:1000', '64000:64000'],
    ['-1', '64000:64000'],
    ['4294967296', '64000:64000'],
    ['1000', '1000:1000'],
    ['1000:100', '1000:100'],
    ['1000:0', '1000:1000'],
    ['1000:root', '1000:1000'],
    ['01000:0100', '1000:100'],
  ])('of an image that says %j is %s', (image, user) => {
    expect(containerUser(image)).toBe(user)
  })
})

describeEngine('a container, seen from inside', () => {
  let place: EnginePlace
  let count = 0
  beforeAll(async () => {
    place = await openEngine()
  })
  afterAll(() => place.close())

  const start = async (script: string, options: Partial<ContainerSpecOptions> = {}): Promise<string> => {
    const spec = containerSpec({
      image: await place.image(),
      entryPoint: ['/bin/sh', '-c', script],
      command: [],
      memoryMib: 64,
      ephemeralStorageMib: 4,
      networkMode: 'none',
      labels: place.labels,
      ...options,
    })
    const id = await place.engine.createContainer(`isola-${place.isolationName}-${++count}`, spec)
    await place.engine.startContainer(id)
    return id
  }
  const end = async (id: string): Promise<{ text: string; exitCode: number; outOfMemory: boolean }> => {
    const lines: string[] = []
    await place.engine.readOutput(id, { sinceMs: 0, onLine: ({ text }) => lines.push(text) }).ended
    const { exitCode = -1, outOfMemory = false } = (await place.engine.inspectContainer(id)) ?? {}
    return { text: lines.join('\n'), exitCode, outOfMemory }
  }
  const run = async (script: string, options?: Partial<ContainerSpecOptions>): Promise<string> =>
    (await end(await start(script, options))).text

  test('it has no capability, no way to new privileges, a system call filter and another user', async () => {
    const status = await run('cat /proc/self/status')
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      expect(status).toMatch(new RegExp(`^${set}:\t0{16}$`, 'm'))
    }
    expect(status).toMatch(/^NoNewPrivs:\t1$/m)
    expect(status).toMatch(/^Seccomp:\t2$/m)
    expect(status).toMatch(/^Uid:\t64000\t64000\t64000\t64000$/m)
    expect(status).toMatch(/^Gid:\t64000\t64000\t64000\t64000$/m)
  })

  test('it can write to /tmp and to nothing else of its own', async () => {
    const text = await run(
      'for d in / /bin /etc /run /var /proc /sys /tmp; do echo x 2>/dev/null >$d/written && echo "$d yes" || echo "$d no"; done 2>/dev/null',
    )
    expect(text.split('\n').filter((line) => line.endsWith(' yes'))).toEqual(['/tmp yes'])
    expect(text.split('\n')).toHaveLength(8)
  })

  test('/tmp ends at its size', async () => {
    const text = await run('dd if=/dev/zero of=/tmp/fill bs=1M count=8 2>&1; ls -l /tmp/fill')
    expect(text).toContain('No space left on device')
    expect(text).toContain(String(4 * 1024 * 1024))
    expect(await run('echo x 2>/dev/null >/tmp/a || echo none', { ephemeralStorageMib: 0 })).toBe('none')
  })

  test('memory is the limit, with nothing to swap to, and /tmp counts', async () => {
    const greedy = await end(
      await start('x=$(head -c 200000000 /dev/zero | tr "\\\\0" x); echo survived', { init: false }),
    )
    expect(greedy).toMatchObject({ outOfMemory: true })
    expect(greedy.text).not.toContain('survived')
    const filling = await end(
      await start('dd if=/dev/zero of=/tmp/fill bs=1M count=80 2>&1; echo survived', {
        ephemeralStorageMib: 100,
      }),
    )
    expect(filling.outOfMemory).toBe(true)
  })

  test('a fork bomb stays inside of its bound', async () => {
    const text = await run(
      'i=0; while [ $i -lt 400 ]; do sleep 30 & i=$((i + 1)); done 2>&1; echo "started $i"',
    )
    expect(text).toMatch(/fork/i)
    const processes = await run(
      `ulimit -n; ulimit -Hn; ulimit -c; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null`,
    )
    const { openFilesMax, pidsMax } = CONTAINER_LIMITS
    expect(processes.split('\n')).toEqual([`${openFilesMax}`, `${openFilesMax}`, '0', `${pidsMax}`])
  })

  test('it has no network, and sees neither the processes nor the cgroups of others', async () => {
    expect(await run('ls /sys/class/net')).toBe('lo')
    expect(await run('echo /proc/[0-9]*')).toMatch(/^\/proc\/1( \/proc\/\d{1,2}){0,2}$/)
    expect(await run('cat /proc/1/cgroup')).not.toMatch(/docker|isola/)
  })

  test('what is bound read-only cannot be written, and a directory that is missing is not made', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'isola-bind-'))
    mkdirSync(join(directory, 'task'), { mode: 0o777 })
    writeFileSync(join(directory, 'task', 'a'), 'code\n')
    const bind = { source: join(directory, 'task'), target: '/var/task', readOnly: true }
    const text = await run('cat /var/task/a; echo x >/var/task/b', { binds: [bind] })
    expect(text).toContain('code')
    expect(text).toContain('Read-only file system')
    await expect(start('', { binds: [{ ...bind, source: join(directory, 'missing') }] })).rejects.toThrow(
      'missing',
    )
    rmSync(directory, { recursive: true })
  })

  test('an image cannot give itself disk by a volume, nor processes by a health check', async () => {
    const image = await place.engine.importImage({
      tar: await imageFiles(place),
      reference: `isola-${place.isolationName}:volume`,
      changes: [
        'VOLUME /data',
        'ENV PATH=/bin',
        `LABEL isola.node=${place.isolationName}`,
        'HEALTHCHECK --interval=1s CMD /bin/id',
      ],
    })
    const text = await run('dd if=/dev/zero of=/data/fill bs=1M count=8 2>&1; cat /proc/mounts', {
      image,
      volumes: ['/data'],
    })
    expect(text).toContain('No space left on device')
    expect(text).toMatch(/^tmpfs \/data tmpfs /m)
  })

  test('environment, command and working directory are what was asked for', async () => {
    const text = await run('echo "$A|$PWD"', { environment: { A: 'b=c d' }, workingDirectory: '/tmp' })
    expect(text).toBe('b=c d|/tmp')
  })

  test('a program that handles no signal ends at SIGTERM, because it is not the first process', async () => {
    const id = await start('exec sleep 600')
    await place.engine.killContainer(id, 'SIGTERM')
    expect((await end(id)).exitCode).toBe(143)
  })

  test('more processors than there are is no error', async () => {
    expect(await run('echo started', { cpus: CONTAINER_LIMITS.cpusMax })).toBe('started')
  })
})

/** Of the place's own image, without its settings. */
async function imageFiles(place: EnginePlace): Promise<AsyncIterable<Uint8Array>> {
  const id = await place.run('exit 0')
  const { request } = await import('node:http')
  return new Promise((resolve, reject) => {
    request({ socketPath: place.socketPath, path: `/containers/${id}/export` }, resolve)
      .on('error', reject)
      .end()
  })
}
