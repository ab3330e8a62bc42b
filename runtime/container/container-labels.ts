/** By these the engine's containers are told from others', and those of one node from those of another. */
export const CONTAINER_LABELS = { node: 'isola.node', kind: 'isola.kind', id: 'isola.id' } as const

export type ContainerKind = 'instance' | 'blank' | 'sandbox'

export function labelsOf(container: {
  readonly isolationName: string
  readonly kind: ContainerKind
  readonly id: string
}): Readonly<Record<string, string>> {
  return {
    [CONTAINER_LABELS.node]: container.isolationName,
    [CONTAINER_LABELS.kind]: container.kind,
    [CONTAINER_LABELS.id]: container.id,
  }
}

/** The engine refuses a name that is taken. A sandbox has its id for a name, and who lives in it `<id>-function`. */
export function containerName(isolationName: string, id: string): string {
  return `isola-${isolationName}-${id}`
}
