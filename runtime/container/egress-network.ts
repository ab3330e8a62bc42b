/**
 * The network of containers with `egress: true`: the public internet, and nothing else. Docker lets every network reach
 * the node itself, its private neighbours and its cloud's metadata, so packets are judged where they come in from the
 * bridge, before routing (table mangle, chain PREROUTING): one place for what would be forwarded and for what the node
 * would take itself, ahead of every rule that Docker, a firewall's front end or an administrator has in `filter`, and
 * not touched by any of them when they start anew. A reply never comes in there, so no state need be kept.
 */
import { createHash } from 'node:crypto'
import { CONTAINER_LABELS } from './container-labels.ts'
import { egressRules, type EgressRulesOptions } from './egress-rules.ts'
import type { Engine } from './engine.ts'
import { createFirewall, type Firewall } from './iptables.ts'
import { hostNameservers } from './egress-nameservers.ts'

export interface EgressNetwork {
  /** Its name; its rules are in force. Throws `unsupported_machine` where there can be none, and `engine_unavailable`. */
  ensure(): Promise<string>
  /** Network and rules. Throws `conflict` while a container is in it. */
  remove(): Promise<void>
}

export interface EgressNetworkOptions extends Pick<EgressRulesOptions, 'allowedCidrs' | 'ownAddresses'> {
  readonly engine: Engine
  readonly isolationName: string
  /** @default what the engine's own resolver asks */
  readonly nameservers?: () => readonly string[]
  /** @default the program `iptables` */
  readonly firewall?: Firewall
}

export function createEgressNetwork(options: EgressNetworkOptions): EgressNetwork {
  const { engine, isolationName, nameservers = hostNameservers, firewall = createFirewall() } = options
  const { networkName, bridgeName, chain } = namesOf(isolationName)
  const ensure = async (): Promise<string> => {
    // The rules name the bridge by its name, so they can be there before it.
    const rules = egressRules({ ...options, nameservers: nameservers() })
    await firewall.ensure({ chain, bridgeName, rules })
    await engine.ensureNetwork(networkName, {
      internal: false,
      bridgeName,
      labels: { [CONTAINER_LABELS.node]: isolationName, 'isola.network': 'egress' },
      options: {
        'com.docker.network.bridge.enable_icc': 'false',
        'com.docker.network.bridge.enable_ip_masquerade': 'true',
      },
    })
    return networkName
  }
  let last: Promise<unknown> = Promise.resolve()
  /** One after another: two that write rules at a time undo each other's. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = last.then(work, work)
    last = turn.catch(() => undefined)
    return turn
  }
  return {
    ensure: () => inTurn(ensure),
    remove: () =>
      inTurn(async () => {
        await engine.removeNetwork(networkName)
        await firewall.remove({ chain, bridgeName })
      }),
  }
}

/** The kernel takes 15 bytes for an interface and 28 for a chain. */
export function namesOf(isolationName: string): {
  readonly networkName: string
  readonly bridgeName: string
  readonly chain: string
} {
  const digest = createHash('sha256').update(isolationName).digest('hex').slice(0, 10)
  return {
    networkName: `isola-egress-${isolationName}`,
    bridgeName: `isola${digest}`,
    chain: `ISOLA-EGRESS-${digest}`,
  }
}
