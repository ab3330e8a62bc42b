#!/bin/sh
':' /*
# One file in two languages. Run as a program it is this shell script, which becomes (exec) Node 24 on the CLI:
# what a user starts is then the agent itself, with one pid, and a SIGKILL hits it and not a launcher.
# For "node bin.js" all this is a comment, and the JavaScript below does the same as well as it can.
self=$(readlink -f "$0")
root=${self%/sdk/cli/bin.js}
main=$root/sdk/cli/main.ts
[ -e "$main" ] || main=$root/dist/sdk/cli/main.js
directory=$root
node=
while [ -z "$node" ]; do
  if [ -x "$directory/node_modules/node/bin/node" ]; then node=$directory/node_modules/node/bin/node; fi
  [ -n "$directory" ] || break
  directory=${directory%/*}
done
if [ -z "$node" ]; then
  version=$(node --version 2>/dev/null || echo none)
  major=${version#v}
  major=${major%%.*}
  case $major in
    '' | *[!0-9]*) major=0 ;;
  esac
  if [ "$major" -lt 24 ]; then
    echo "isola needs Node.js 24 and found $version: run \"npm install\" in $root (it brings its own), or install Node.js 24" >&2
    exit 3
  fi
  node=node
fi
exec "$node" --disable-warning=ExperimentalWarning "$main" "$@"
*/
import { existsSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
// The published package carries no sources (Node refuses .ts under node_modules), so they mean a clone.
const source = join(root, 'sdk/cli/main.ts')
const main = existsSync(source) ? source : join(root, 'dist/sdk/cli/main.js')

if (Number(process.versions.node.split('.')[0]) >= 24) await import(pathToFileURL(main).href)
else launch(findNode(root))

function findNode(directory) {
  const candidate = join(directory, 'node_modules/node/bin/node')
  if (existsSync(candidate)) return candidate
  if (dirname(directory) !== directory) return findNode(dirname(directory))
  console.error(
    `isola needs Node.js 24 and found ${process.version}: run "npm install" in ${root} (it brings its own), or install Node.js 24`,
  )
  return process.exit(3)
}

/** Node cannot exec, so this process stays in front: it passes signals on, and its end ends the child by the IPC channel. */
function launch(node) {
  const child = spawn(node, ['--disable-warning=ExperimentalWarning', main, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  })
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
  for (const signal of signals) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => {
    console.error(`isola could not start ${node}: ${error.message}`)
    process.exit(3)
  })
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 3)
    for (const name of signals) process.removeAllListeners(name)
    process.kill(process.pid, signal)
  })
}
