/**
 * What the forwarder of a sandbox does, as workerd reads it: HTTP from a unix socket to a port of its own network
 * namespace. As text, because workerd reads that as fast as it starts and a person can read it, too.
 */
import { join } from 'node:path'

/** As the container sees them. */
export const FORWARDER_FILES = {
  socketDirectory: '/run/isola',
  socket: 'http.sock',
  configDirectory: '/etc/isola',
  config: 'forwarder.capnp',
} as const

/** The image's own entry point is workerd. */
export const FORWARDER_COMMAND = [
  'serve',
  join(FORWARDER_FILES.configDirectory, FORWARDER_FILES.config),
] as const

/** Inside of workerd itself. */
const SCHEMA = '"/workerd/workerd.capnp"'

/**
 * An external service and a socket of the same style pass on requests as they came. It is called "internet" because
 * workerd makes a service of that name where there is none, and for it would want the CA certificates of a machine.
 */
export function forwarderConfig({ port }: { readonly port: number }): string {
  const socket = join(FORWARDER_FILES.socketDirectory, FORWARDER_FILES.socket)
  return `using Workerd = import ${SCHEMA};

const config :Workerd.Config = (
  services = [(name = "internet", external = (address = "127.0.0.1:${port}", http = ()))],
  sockets = [(name = "http", address = "unix:${socket}", http = (), service = "internet")],
);
`
}
