/** The proxies that the router is measured against, set up to do the same work: keep-alive to the unix socket, access log. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { childPidsOf } from './process-usage.ts'
import { freePort, spawnProcess, waitForListener, type SpawnedProcess } from './spawned-process.ts'

/** Something in front of the origin, or the origin itself. */
export interface Target {
  readonly name: string
  readonly port: number
  /** The process whose CPU and memory count. */
  readonly pid: number
  readonly process: SpawnedProcess
}

export async function startNginx(options: {
  readonly directory: string
  readonly socketPath: string
}): Promise<Target> {
  const directory = join(options.directory, 'nginx')
  mkdirSync(directory)
  const port = await freePort()
  const config = `
daemon off;
user root;
worker_processes 1;
pid ${directory}/pid;
error_log ${directory}/error.log;
events { worker_connections 4096; }
http {
  access_log ${directory}/access.log combined;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;
  client_max_body_size 100m;
  keepalive_requests 1000000000;
  map $http_upgrade $upstream_connection { default upgrade; '' ''; }
  upstream origin { server unix:${options.socketPath}; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port};
    server_name bench.localhost;
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $upstream_connection;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id;
    }
  }
}
`
  writeFileSync(join(directory, 'nginx.conf'), config)
  const process = spawnProcess('nginx', ['-c', join(directory, 'nginx.conf'), '-p', directory])
  await waitForListener(process, { host: '127.0.0.1', port })
  const worker = childPidsOf(process.pid)[0]
  if (worker === undefined) throw new Error(`nginx has no worker process; it said:\n${process.output()}`)
  return { name: 'nginx', port, pid: worker, process }
}

export async function startCaddy(options: {
  readonly directory: string
  readonly socketPath: string
}): Promise<Target> {
  const directory = join(options.directory, 'caddy')
  mkdirSync(directory)
  const port = await freePort()
  const config = `{
  admin off
  auto_https off
}
http://bench.localhost:${port} {
  bind 127.0.0.1
  log {
    output file ${directory}/access.log
  }
  reverse_proxy unix/${options.socketPath} {
    transport http {
      keepalive_idle_conns 64
      keepalive_idle_conns_per_host 64
    }
  }
}
`
  writeFileSync(join(directory, 'Caddyfile'), config)
  const environment = { HOME: directory, XDG_DATA_HOME: directory, XDG_CONFIG_HOME: directory }
  const process = spawnProcess(
    'caddy',
    ['run', '--adapter', 'caddyfile', '--config', join(directory, 'Caddyfile')],
    { environment },
  )
  await waitForListener(process, { host: '127.0.0.1', port })
  return { name: 'Caddy', port, pid: process.pid, process }
}
