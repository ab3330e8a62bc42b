import { LIMITS_BY_KIND, mergeFunctionLimits, type FunctionLimits } from '../../sdk/model/function-limits.ts'
import {
  numberedVersionIds,
  type Head,
  type Version,
  type VersionContent,
  type VersionLimits,
} from '../../sdk/model/function.ts'
import { mergePolicy, type Prewarm } from '../../sdk/model/policy.ts'
import type { InstanceDriver } from '../pool/driver.ts'
import type { VersionSpec } from '../pool/node-events.ts'

/**
 * What the head of now makes of each version: its policy, and the limits of its instances. What a version asks for
 * itself stands in its own document, which never changes: it is read once, in the background, and until then the
 * limits of fleet and function hold.
 */
export interface HeadVersionsOptions {
  getVersion(functionName: string, versionId: string): Promise<Version>
  foresee: InstanceDriver['foresee']
  /** A version asks for more or less than was assumed: `specs` has changed. */
  onChange(): void
  onEvent(line: string): void
}

interface Asked {
  readonly limits: Partial<VersionLimits>
  readonly content?: VersionContent
}

export class HeadVersions {
  readonly #options: HeadVersionsOptions
  #head: Head | undefined
  /** What versions ask for. Kept of those that the head names, and of those that have instances. */
  #askedById = new Map<string, Asked>()
  /** In force, worked out once a head. */
  #limitsById = new Map<string, FunctionLimits>()
  /** Function by version, to be read. */
  readonly #unread = new Map<string, string>()
  #reading = false

  constructor(options: HeadVersionsOptions) {
    this.#options = options
  }

  apply(head: Head, versionIdsInUse: ReadonlySet<string>): void {
    this.#head = head
    this.#limitsById.clear()
    this.#unread.clear()
    const asked = new Map<string, Asked>()
    const keep = (versionId: string): boolean => {
      const known = this.#askedById.get(versionId)
      if (known !== undefined) asked.set(versionId, known)
      return known !== undefined
    }
    for (const record of Object.values(head.functions)) {
      for (const { versionId } of record.deployment.shares)
        if (!keep(versionId)) this.#unread.set(versionId, record.name)
      // Those of previews are read when they start: most never do.
      for (const versionId of [...record.recentVersionIds, ...numberedVersionIds(record)]) keep(versionId)
    }
    for (const versionId of versionIdsInUse) keep(versionId)
    this.#askedById = asked
    void this.#read()
  }

  /** The document of a version that is about to start: whoever planned the start must hear of its limits, or would find it wrong. */
  remember(version: Version): void {
    if (this.#learn(version) && this.hasFunction(version.functionName)) this.#options.onChange()
  }

  hasFunction(functionName: string): boolean {
    return this.#head !== undefined && Object.hasOwn(this.#head.functions, functionName)
  }

  /** In force now for an instance of the version. */
  limits(functionName: string, versionId: string): FunctionLimits {
    const known = this.#limitsById.get(versionId)
    if (known !== undefined) return known
    const settings = this.#head?.settings
    const record = this.hasFunction(functionName) ? this.#head!.functions[functionName] : undefined
    const asked = this.#askedById.get(versionId)
    const kind = record?.kind ?? asked?.content?.kind ?? 'worker'
    const limits = mergeFunctionLimits(
      settings?.ceiling,
      LIMITS_BY_KIND[kind],
      settings?.limits,
      asked?.limits,
      record?.limits,
    )
    this.#limitsById.set(versionId, limits)
    return limits
  }

  /** Of every version that a request can reach. */
  specs(): VersionSpec[] {
    const head = this.#head
    if (head === undefined) return []
    return Object.values(head.functions).flatMap((record) => {
      const percentById = new Map(
        record.deployment.shares.map(({ versionId, percent }) => [versionId, percent]),
      )
      const previewed = record.previewHosts ? record.recentVersionIds : []
      for (const versionId of [...previewed, ...numberedVersionIds(record)])
        if (!percentById.has(versionId)) percentById.set(versionId, 0)
      const policy = mergePolicy(head.settings?.policy, record.policy)
      return [...percentById].flatMap(([versionId, percent]) => {
        const { memoryMib } = this.limits(record.name, versionId)
        const content = this.#askedById.get(versionId)?.content
        // Nothing but static files: there is nothing to start, whatever the minimum.
        if (content !== undefined && isCodeless(content)) return []
        const foresight = this.#options.foresee({ kind: record.kind, memoryMib, ...(content && { content }) })
        return { functionName: record.name, versionId, percent, policy, memoryMib, ...foresight }
      })
    })
  }

  /** Functions for which minimums are scheduled. */
  prewarms(): [functionName: string, prewarm: readonly Prewarm[]][] {
    const fleet = this.#head?.settings?.policy
    return Object.values(this.#head?.functions ?? {}).flatMap((record) => {
      const prewarm = record.policy.prewarm ?? fleet?.prewarm ?? []
      return prewarm.length === 0 ? [] : [[record.name, prewarm]]
    })
  }

  async #read(): Promise<void> {
    if (this.#reading) return
    this.#reading = true
    let changed = false
    // One after the other: a start must not wait behind a thousand documents.
    for (let next = firstOf(this.#unread); next !== undefined; next = firstOf(this.#unread)) {
      const [versionId, functionName] = next
      try {
        const version = await this.#options.getVersion(functionName, versionId)
        if (this.#learn(version)) changed = true
      } catch (error) {
        // Its start will fail for the same reason, and say so to whoever asks for it.
        this.#unread.delete(versionId)
        this.#options.onEvent(`version ${versionId} of "${functionName}" cannot be read: ${String(error)}`)
      }
    }
    this.#reading = false
    if (changed) this.#options.onChange()
  }

  /** Whether it asks for limits that were not known. */
  #learn({ id, content }: Version): boolean {
    this.#unread.delete(id)
    if (this.#askedById.has(id)) return false
    // Every isolate begins alike; its modules need not be remembered.
    const isAlike = content.kind === 'worker' && !isCodeless(content)
    this.#askedById.set(id, { limits: content.limits, ...(!isAlike && { content }) })
    this.#limitsById.delete(id)
    return !isAlike || Object.keys(content.limits).length > 0
  }
}

function isCodeless(content: VersionContent): boolean {
  return content.kind === 'worker' && content.mainModule === ''
}

function firstOf(map: ReadonlyMap<string, string>): [string, string] | undefined {
  for (const entry of map) return entry
  return undefined
}
