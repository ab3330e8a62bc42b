import { expect, test } from 'vitest'
import {
  environmentOf,
  lambdaFunctionOf,
  withoutSecrets,
  withSecrets,
} from '../../runtime/container/lambda-function.ts'
import type { LambdaEnvironment } from '../../runtime/lambda/wire.ts'
import { DEFAULT_CONTAINER_SETTINGS, type ContainerVersion } from '../../sdk/model/function.ts'

const VERSION: ContainerVersion = {
  id: '0'.repeat(32),
  functionName: 'shop',
  createdAt: '2026-11-01T00:00:00.000Z',
  message: '',
  content: {
    kind: 'container',
    protocol: 'lambda',
    source: {
      type: 'code',
      runtime: 'nodejs24',
      handler: 'index.handler',
      archive: { sha256: 'a', sizeBytes: 1 },
    },
    bindings: [
      { type: 'text', name: 'TEXT', text: 'x' },
      { type: 'json', name: 'DATA', json: [1] },
      { type: 'secret', name: 'KEY', sealed: 'v1.closed' },
    ],
    limits: {},
    settings: DEFAULT_CONTAINER_SETTINGS,
  },
}
const PARTS = {
  startTimeoutMs: 1_000,
  openSecret: ({ functionName, name, sealed }: { functionName: string; name: string; sealed: string }) =>
    `${functionName}'s ${name} of ${sealed}`,
}
const WHOLE = { TEXT: 'x', DATA: '[1]', KEY: `shop's KEY of v1.closed` }

test('the environment of a container has its secrets, opened', () => {
  expect(environmentOf(VERSION, PARTS)).toEqual(WHOLE)
  expect(() => environmentOf(VERSION, {})).toThrow('secret "KEY" cannot be opened')
})

test('what is written of an environment has no secrets, and gets them back when it is read', () => {
  const limits = { memoryMib: 128, cpuMs: 1_000 }
  const environment: LambdaEnvironment = {
    id: 'i1',
    httpSocket: '/http.sock',
    runtimeApi: { type: 'socket', path: '/api.sock' },
    function: lambdaFunctionOf({ version: VERSION, limits, handler: 'index.handler', parts: PARTS }),
  }
  const written = withoutSecrets(environment, VERSION)
  expect(written.function?.environment).toEqual({ TEXT: 'x', DATA: '[1]' })
  expect(environment.function?.environment).toEqual(WHOLE)
  expect(withSecrets(JSON.parse(JSON.stringify(written)) as LambdaEnvironment, VERSION, PARTS)).toEqual(
    environment,
  )
  const blank = { ...environment, function: undefined } as unknown as LambdaEnvironment
  expect(withoutSecrets(blank, VERSION)).toBe(blank)
})
