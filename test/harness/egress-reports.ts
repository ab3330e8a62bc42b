import type { EgressUnderTest } from './egress.ts'

/** What a router would say of instance "i1", when the test wants it said. */
export class Reports {
  readonly #egress: EgressUnderTest
  started = 0
  inFlight = 0

  constructor(egress: EgressUnderTest) {
    this.#egress = egress
  }

  begin(requests = 1): void {
    this.started += requests
    this.inFlight += requests
  }

  end(requests = 1): void {
    this.inFlight -= requests
  }

  /** As the agent passes it on: settles when the proxy has taken it in. */
  async tell(): Promise<void> {
    const { started, inFlight } = this
    await this.#egress.proxy.handle({ type: 'load', instances: [{ id: 'i1', started, inFlight }] })
  }

  /** So many that whoever is held has heard all there is to hear. */
  async tellAll(): Promise<void> {
    for (let report = 0; report < 3; report += 1) await this.tell()
  }
}
