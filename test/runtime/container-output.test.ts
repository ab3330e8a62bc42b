import { describe, expect, test } from 'vitest'
import { OUTPUT_LIMITS } from '../../sdk/model/limits.ts'
import type { Engine, OutputOptions } from '../../runtime/container/engine.ts'
import { followOutput } from '../../runtime/container/container-output.ts'
import { outputLine } from '../../runtime/container/output-line.ts'

const OWNER = { functionName: 'shop', versionId: 'v1', instanceId: 'i1' }
const AT_MS = Date.parse('2026-11-21T12:00:00.000Z')
const line = (text: string, stream: 'stdout' | 'stderr' = 'stdout') =>
  outputLine({ stream, text, atMs: AT_MS }, OWNER)

describe('a line of a container', () => {
  test('is text, at the time the engine took it, and an error where it came on stderr', () => {
    expect(line('listening')).toEqual({
      ...OWNER,
      time: '2026-11-21T12:00:00.000Z',
      source: 'console',
      level: 'log',
      message: 'listening',
    })
    expect(line('boom', 'stderr').level).toBe('error')
  })

  test("in the form of AWS's node runtime has its request, level and time, and its line breaks again", () => {
    const written = '2026-11-21T11:59:59.123Z\t8f5c7a10-0000-4000-8000-000000000001\tWARN\tone\rtwo'
    expect(line(written)).toMatchObject({
      time: '2026-11-21T11:59:59.123Z',
      requestId: '8f5c7a10-0000-4000-8000-000000000001',
      level: 'warn',
      message: 'one\ntwo',
    })
  })

  test("in the form of AWS's python runtime too", () => {
    const written = '[ERROR]\t2026-11-21T11:59:59.123Z\t8f5c7a10-0000-4000-8000-000000000001\tbroken\tpipe'
    expect(line(written)).toMatchObject({
      time: '2026-11-21T11:59:59.123Z',
      requestId: '8f5c7a10-0000-4000-8000-000000000001',
      level: 'error',
      message: 'broken\tpipe',
    })
  })

  test('outside of an invocation belongs to no request', () => {
    const node = line('2026-11-21T11:59:59.123Z\tundefined\tINFO\tloaded')
    expect(node).toMatchObject({ level: 'info', message: 'loaded' })
    expect(node).not.toHaveProperty('requestId')
    expect(line('[INFO]\t2026-11-21T11:59:59.123Z\t\tloaded')).not.toHaveProperty('requestId')
  })

  test.each([
    '2026-11-21T11:59:59.123Z\tid\tLOUD\tno such level',
    '2026-11-21 11:59:59\tid\tINFO\tno such time',
    `2026-11-21T11:59:59.123Z\t${'x'.repeat(129)}\tINFO\tid too long`,
    '[INFO] 2026-11-21T11:59:59.123Z id no tabs',
  ])('that only looks like that is text: %s', (text) => {
    expect(line(text)).toMatchObject({ level: 'log', message: text, time: '2026-11-21T12:00:00.000Z' })
  })

  test('names no time beyond any calendar', () => {
    expect(line('2026-99-99T99:99:99Z\tid\tINFO\thm').time).toBe('2026-11-21T12:00:00.000Z')
  })

  test('that is too long is cut', () => {
    expect(line('x'.repeat(OUTPUT_LIMITS.textLengthMax + 1)).message).toBe(
      `${'x'.repeat(OUTPUT_LIMITS.textLengthMax)}… (cut)`,
    )
  })
})

describe('what a container said last', () => {
  function followed() {
    let options: OutputOptions | undefined
    const ended = Promise.withResolvers<void>()
    const engine = {
      readOutput(_: string, given: OutputOptions) {
        options = given
        return { stop: () => undefined, ended: ended.promise }
      },
    } as unknown as Engine
    const output = followOutput({
      engine,
      containerId: 'c',
      sinceMs: 0,
      owner: OWNER,
      log: () => undefined,
    })
    const write = (text: string, stream: 'stdout' | 'stderr' = 'stderr') =>
      options!.onLine({ stream, text, atMs: AT_MS })
    return { output, write, ended }
  }

  test('is its stderr, without what stdout has', () => {
    const { output, write } = followed()
    write('usual', 'stdout')
    write('worse')
    write('worst')
    expect(output.lastErrors()).toBe('worse\nworst')
  })

  test('stays within its bounds, the newest kept', () => {
    const { output, write } = followed()
    for (let n = 0; n < OUTPUT_LIMITS.lastErrorsLinesMax + 5; n++) write(`line ${n}`)
    expect(output.lastErrors().split('\n')).toHaveLength(OUTPUT_LIMITS.lastErrorsLinesMax)
    expect(output.lastErrors()).toContain(`line ${OUTPUT_LIMITS.lastErrorsLinesMax + 4}`)
    write('y'.repeat(10 * OUTPUT_LIMITS.lastErrorsLengthMax))
    expect(output.lastErrors()).toBe('y'.repeat(OUTPUT_LIMITS.lastErrorsLengthMax))
  })

  test('is not waited for longer than a moment after its end', async () => {
    const { output } = followed()
    await output.readUp()
    expect(output.lastErrors()).toBe('')
  })
})
