import { describe, expect, test } from 'vitest'
import { HeadVersions } from '../../runtime/node/supervisor-versions.ts'
import { snapshotOf } from '../../runtime/node/snapshot.ts'
import type { FunctionRecord, Head } from '../../sdk/model/function.ts'

const NUMBERED = { description: '', createdAt: '' }

const RECORD: FunctionRecord = {
  name: 'shop',
  kind: 'container',
  deployment: { id: 'd', shares: [{ versionId: 'live', percent: 100 }], createdAt: '', message: '' },
  recentVersionIds: ['live', 'recent'],
  routes: [],
  baseDomainHost: true,
  previewHosts: false,
  policy: {},
  lambda: {
    role: '',
    description: '',
    tags: {},
    revisionId: '',
    lastModified: '',
    versions: [
      { number: 1, versionId: 'old', ...NUMBERED },
      { number: 2, versionId: 'live', ...NUMBERED },
      { number: 3, versionId: 'old', ...NUMBERED },
    ],
    nextVersion: 4,
    aliases: {},
  },
}

const HEAD: Head = { formatVersion: 1, generation: 1, writeId: 'w', functions: { shop: RECORD } }

describe('a version with a number in the Lambda API', () => {
  test('can be called by the router’s inner door, each once', () => {
    const [fn] = snapshotOf(HEAD, 'localhost').functions
    expect(fn!.pinnedVersionIds).toEqual(['old', 'live'])
    expect(fn!.previewVersionIds).toEqual([])
  })

  test('may have instances, although it has no traffic', () => {
    const versions = new HeadVersions({
      getVersion: () => Promise.reject(new Error('is not read')),
      foresee: () => ({ reserveMib: 1 }),
      onChange: () => undefined,
      onEvent: () => undefined,
    })
    versions.apply(HEAD, new Set())
    const percents = versions.specs().map(({ versionId, percent }) => [versionId, percent])
    expect(percents).toEqual([
      ['live', 100],
      ['old', 0],
    ])
  })
})
