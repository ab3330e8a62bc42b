import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { AsyncEvents } from '../../runtime/async/async-events.ts'
import type { AsyncLimits } from '../../runtime/async/event-worker.ts'
import { openAsyncEvents } from '../../runtime/async/open-async-events.ts'
import { isIsolaError } from '../../sdk/model/errors.ts'
import { withTmpfs } from '../harness/tmpfs.ts'

const CHILD = fileURLToPath(new URL('../harness/async-child.ts', import.meta.url))
const ROUNDS = 8
const MIB = 1024 * 1024

interface Round {
  readonly acknowledged: readonly string[]
  readonly run: readonly string[]
}

/** Lets a child work until it has acknowledged so many more events, and kills it in the middle of whatever it does. */
async function workAndKill(directory: string, first: number, acks: number): Promise<Round> {
  const child = spawn(process.execPath, [CHILD, directory, String(first)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  const acknowledged: string[] = []
  const run: string[] = []
  const closed = once(child, 'close') as Promise<[number | null, string | null]>
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [word, id = ''] = line.split(' ')
    if (word === 'ack') acknowledged.push(id)
    if (word === 'run') run.push(id)
    if (acknowledged.length === acks) child.kill('SIGKILL')
  })
  const [, signal] = await closed
  expect([signal, stderr]).toEqual(['SIGKILL', ''])
  return { acknowledged, run }
}

test('kill -9 at any moment loses no acknowledged event: each was worked on or is a dead letter', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'isola-async-kill-'))
  try {
    const acknowledged = new Set<string>()
    const run = new Set<string>()
    let first = 1
    for (let round = 0; round < ROUNDS; round += 1) {
      const made = await workAndKill(directory, first, 40 + Math.floor(Math.random() * 200))
      for (const id of made.acknowledged) acknowledged.add(id)
      for (const id of made.run) run.add(id)
      first += 1_000_000
    }
    // What is left is worked on by whoever opens it next.
    const late = new Set<string>()
    const events = await openAsyncEvents({
      directory,
      invoke: async ({ requestId, payload }) => {
        expect(Buffer.from(payload).toString()).toBe(requestId)
        late.add(requestId)
        return { status: 200, error: undefined, functionError: undefined, retryAfterS: undefined, body: '' }
      },
      settingsOf: () => ({}),
      onEvent: (line) => expect.fail(line),
      limits: { retryMsMin: 1 },
    })
    await expect.poll(() => [...events.counts().values()].every(({ waiting }) => waiting === 0)).toBe(true)
    const dead = new Set(
      ['f0', 'f1', 'f2', 'f3'].flatMap((functionName) =>
        events.deadLetters({ functionName, limit: 100_000 }).map(({ requestId }) => requestId),
      ),
    )
    await events.close()
    expect(acknowledged.size).toBeGreaterThan(ROUNDS * 39)
    // The fault happened: something was under way when it came.
    expect(late.size).toBeGreaterThan(0)
    expect([...acknowledged].filter((id) => !run.has(id) && !late.has(id) && !dead.has(id))).toEqual([])
    // Dead are only those that always fail, after all their tries.
    expect([...dead].filter((id) => Number(id) % 5 !== 0)).toEqual([])
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})

/** What is taken until one is refused; how the refusal is named. */
async function fill(events: AsyncEvents): Promise<{ readonly taken: string[]; readonly code: unknown }> {
  const taken: string[] = []
  for (let number = 0; number < 2_000; number += 1) {
    try {
      await events.enqueue({ requestId: String(number), functionName: 'shop', payload: PAYLOAD })
    } catch (error) {
      return { taken, code: isIsolaError(error) ? error.code : error }
    }
    taken.push(String(number))
  }
  return { taken, code: undefined }
}

const PAYLOAD = Buffer.alloc(20_000, '1')

async function openOnDisk(directory: string, limits: Partial<AsyncLimits>) {
  const state = { isOpen: false }
  const worked = new Set<string>()
  const events = await openAsyncEvents({
    directory,
    invoke: async ({ requestId }) => {
      if (state.isOpen) worked.add(requestId)
      const outcome = state.isOpen
        ? { status: 200, error: undefined }
        : { status: 429, error: 'queue_full' as const }
      return { ...outcome, functionError: undefined, retryAfterS: undefined, body: '' }
    },
    settingsOf: () => ({}),
    onEvent: () => undefined,
    limits: { refusedMsMin: 1, refusedMsMax: 5, repairMs: 10, ...limits },
  })
  return { events, worked, state }
}

test('before the disk is full events are refused by name, those taken are worked on, and then there is room again', async () => {
  const hadDisk = await withTmpfs({ sizeBytes: 16 * MIB }, async (directory) => {
    const { events, worked, state } = await openOnDisk(directory, { freeDiskBytesMin: 8 * MIB })
    const { taken, code } = await fill(events)
    expect(code).toBe('storage_full')
    expect(taken.length).toBeGreaterThan(50)
    state.isOpen = true
    await expect.poll(() => events.counts().size, { timeout: 20_000 }).toBe(0)
    expect([...worked].toSorted()).toEqual(taken.toSorted())
    await events.close()
  })
  if (!hadDisk) expect(process.getuid?.()).not.toBe(0)
})

test('a disk that others have filled refuses events by name and loses none; with space again all goes on', async () => {
  const hadDisk = await withTmpfs({ sizeBytes: 16 * MIB }, async (directory) => {
    const { events, worked, state } = await openOnDisk(directory, { freeDiskBytesMin: 0 })
    await events.enqueue({ requestId: 'before', functionName: 'shop', payload: PAYLOAD })
    const filler = join(directory, 'filler')
    expect(() => writeFileSync(filler, Buffer.alloc(32 * MIB))).toThrow('ENOSPC')
    const { taken, code } = await fill(events)
    expect(code).toBe('storage_full')
    state.isOpen = true
    rmSync(filler)
    await expect.poll(() => events.counts().size, { timeout: 20_000 }).toBe(0)
    expect([...worked].toSorted()).toEqual([...taken, 'before'].toSorted())
    await events.enqueue({ requestId: 'after', functionName: 'shop', payload: PAYLOAD })
    await expect.poll(() => worked.has('after')).toBe(true)
    await events.close()
  })
  if (!hadDisk) expect(process.getuid?.()).not.toBe(0)
})
