import { readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'

/** systemd-resolved keeps the real ones in a file of its own; the engine reads that, too, where the first names only the node. */
const FILES = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf'] as const

/** IPv4 addresses that names are asked of on this machine, loopback aside: the engine asks those itself, from outside. */
export function hostNameservers(files: readonly string[] = FILES): readonly string[] {
  const found = files.flatMap((file) =>
    [...readText(file).matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, address]) => address!),
  )
  return [...new Set(found)].filter((address) => isIPv4(address) && !address.startsWith('127.'))
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
