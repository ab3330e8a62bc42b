/**
 * Dispatch namespaces: many functions behind one binding, each named by its script. Such a function has a name of its own,
 * made of the script's and of the namespace, so that scripts of two namespaces and functions of the fleet never meet; it
 * answers on no host. Which script is which function stands in the head, and changes in the swap that changes the function.
 */
import { createHash, randomUUID } from 'node:crypto'
import { IsolaError } from '../../sdk/model/errors.ts'
import type { Head, VersionContent } from '../../sdk/model/function.ts'
import { WRANGLER_API_LIMITS } from '../../sdk/model/limits.ts'
import type { DispatchNamespace } from '../../sdk/model/wrangler.ts'
import { namespacesOf } from '../pool/dispatch-call.ts'
import type { DispatchChange } from '../registry/registry.ts'
import { untilLive } from './go-live.ts'
import type { ControlPorts } from './ports.ts'

type Namespaces = Readonly<Record<string, DispatchNamespace>>

/** Throws `not_found` that names what there is. */
export function findNamespace(head: Head, name: string): DispatchNamespace {
  const namespaces = namespacesIn(head)
  const found = Object.hasOwn(namespaces, name) ? namespaces[name] : undefined
  if (found !== undefined) return found
  const known = Object.keys(namespaces).slice(0, 10)
  throw new IsolaError(
    'not_found',
    `there is no dispatch namespace ${JSON.stringify(name.slice(0, 100))}: ${known.length === 0 ? 'there are none yet' : `there are ${known.join(', ')}`}; make it with "wrangler dispatch-namespace create"`,
  )
}

/** Throws `invalid_argument` for a name that none can have, `conflict` for one that is taken. */
export async function createNamespace(ports: ControlPorts, name: string): Promise<DispatchNamespace> {
  checkName(name)
  const at = new Date().toISOString()
  const made: DispatchNamespace = { id: randomUUID(), createdAt: at, modifiedAt: at, functionByScript: {} }
  await swapNamespaces(ports, (namespaces) => {
    checkNameFree(namespaces, name)
    const count = Object.keys(namespaces).length
    if (count >= WRANGLER_API_LIMITS.dispatchNamespacesMax) {
      throw new IsolaError(
        'conflict',
        `"${name}" would be dispatch namespace ${count + 1} and ${WRANGLER_API_LIMITS.dispatchNamespacesMax} is the most: delete one that is not needed`,
      )
    }
    return { ...namespaces, [name]: made }
  })
  return made
}

/** Its functions stay; bindings that have the old name find nothing by it any more. */
export async function renameNamespace(
  ports: ControlPorts,
  { name, newName }: { readonly name: string; readonly newName: string },
): Promise<DispatchNamespace> {
  checkName(newName)
  const head = await swapNamespaces(ports, (namespaces, head) => {
    const found = findNamespace(head, name)
    if (newName === name) return namespaces
    checkNameFree(namespaces, newName)
    const { [name]: _renamed, ...others } = namespaces
    return { ...others, [newName]: { ...found, modifiedAt: new Date().toISOString() } }
  })
  return findNamespace(head, newName)
}

/** Throws `conflict` while it has scripts. */
export async function deleteNamespace(ports: ControlPorts, name: string): Promise<void> {
  await swapNamespaces(ports, (namespaces, head) => {
    const scripts = Object.entries(findNamespace(head, name).functionByScript)
    const [first] = scripts
    if (first !== undefined) {
      const named = scripts.slice(0, 5).map(([script]) => script)
      throw new IsolaError(
        'conflict',
        `dispatch namespace "${name}" still has ${scripts.length} ${scripts.length === 1 ? 'script' : 'scripts'} (${named.join(', ')}${scripts.length > 5 ? ', …' : ''}): delete each first, e.g. "${first[0]}" with: isola delete ${first[1]} --yes`,
      )
    }
    const { [name]: _deleted, ...others } = namespaces
    return others
  })
}

/** The name of the function that a script is, whether it is there or not: the same for as long as the namespace is. */
export function scriptFunctionName(namespace: DispatchNamespace, script: string): string {
  const digest = createHash('sha256').update(`${namespace.id} ${script}`).digest('hex').slice(0, 16)
  return `${script.slice(0, 46).toLowerCase()}-${digest}`
}

/** `undefined` where the namespace has no such script. */
export function scriptFunction(namespace: DispatchNamespace, script: string): string | undefined {
  const { functionByScript } = namespace
  return Object.hasOwn(functionByScript, script) ? functionByScript[script] : undefined
}

/** The namespace that a function is a script of. */
export function namespaceOfFunction(head: Head, functionName: string): string | undefined {
  return Object.entries(namespacesIn(head)).find(([, { functionByScript }]) =>
    Object.values(functionByScript).includes(functionName),
  )?.[0]
}

/**
 * The same ports, on which whatever puts the script's function into the head also puts the script into its namespace: so a
 * deploy is the deploy of every function, and no crash leaves one without the other. Throws `not_found` in the swap where
 * the namespace has gone, or is another by now.
 */
export function portsOfScript<Ports extends ControlPorts>(
  ports: Ports,
  { name, script }: { readonly name: string; readonly script: string },
): Ports {
  const { id } = findNamespace(ports.registry.head, name)
  const registry: ControlPorts['registry'] = Object.create(ports.registry, {
    swap: {
      value: (change: (head: Head) => Head['functions']) =>
        ports.registry.swapDispatch((head) => {
          const namespace = findNamespace(head, name)
          if (namespace.id !== id) {
            throw new IsolaError('not_found', `dispatch namespace "${name}" was deleted meanwhile: try again`)
          }
          return withScript(head, { name, namespace, script, functions: change(head) })
        }),
    },
  }) as ControlPorts['registry']
  return { ...ports, registry }
}

function withScript(
  head: Head,
  made: {
    readonly name: string
    readonly namespace: DispatchNamespace
    readonly script: string
    readonly functions: Head['functions']
  },
): DispatchChange {
  const { name, namespace, script, functions } = made
  const functionName = scriptFunctionName(namespace, script)
  const isListed = scriptFunction(namespace, script) === functionName
  if (isListed || !Object.hasOwn(functions, functionName)) return { ...head, functions }
  const functionByScript = { ...namespace.functionByScript, [script]: functionName }
  const changed = { ...namespace, functionByScript, modifiedAt: new Date().toISOString() }
  return { functions, dispatchNamespaces: { ...head.dispatchNamespaces, [name]: changed } }
}

/** What is left without a function; whoever names it in a namespace does so no more. */
export function withoutFunction(head: Head, functionName: string): DispatchChange {
  const { [functionName]: _deleted, ...functions } = head.functions
  if (head.dispatchNamespaces === undefined) return { functions }
  const entries = Object.entries(head.dispatchNamespaces).map(([name, namespace]) => {
    const scripts = Object.entries(namespace.functionByScript)
    const left = scripts.filter(([, named]) => named !== functionName)
    if (left.length === scripts.length) return [name, namespace] as const
    const functionByScript = Object.fromEntries(left)
    return [name, { ...namespace, functionByScript, modifiedAt: new Date().toISOString() }] as const
  })
  return { functions, dispatchNamespaces: Object.fromEntries(entries) }
}

/** Throws `invalid_argument` for a binding to a namespace that is not there: its first caller would else be who finds it. */
export function checkNamespaces(head: Head, content: VersionContent): void {
  const missing = namespacesOf(content).find((name) => !Object.hasOwn(namespacesIn(head), name))
  if (missing === undefined) return
  const binding = content.bindings.find((each) => each.type === 'dispatch' && each.namespace === missing)
  throw new IsolaError(
    'invalid_argument',
    `the binding "${binding?.name}" names the dispatch namespace ${JSON.stringify(missing.slice(0, 100))}, which is not there: make it first (wrangler dispatch-namespace create), or correct the name`,
  )
}

function namespacesIn({ dispatchNamespaces = {} }: Head): Namespaces {
  return dispatchNamespaces
}

async function swapNamespaces(
  ports: ControlPorts,
  change: (namespaces: Namespaces, head: Head) => Namespaces,
): Promise<Head> {
  const head = await ports.registry.swapDispatch((head) => ({
    functions: head.functions,
    dispatchNamespaces: change(namespacesIn(head), head),
  }))
  await untilLive(ports, head)
  return head
}

function checkName(name: string): void {
  const charsMax = WRANGLER_API_LIMITS.dispatchNamespaceCharsMax
  if (/^[A-Za-z0-9][A-Za-z0-9_-]*$/.test(name) && name.length <= charsMax) return
  throw new IsolaError(
    'invalid_argument',
    `${JSON.stringify(name.slice(0, 100))} cannot be a dispatch namespace: begin with a letter or digit, and go on with these, "_" and "-", ${charsMax} at most`,
  )
}

function checkNameFree(namespaces: Namespaces, name: string): void {
  if (!Object.hasOwn(namespaces, name)) return
  throw new IsolaError(
    'conflict',
    `there is a dispatch namespace "${name}" already: use it, or choose another name`,
  )
}
