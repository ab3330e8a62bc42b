/** What every image of isola's has, whatever runs in it. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { rootCertificates } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { createImageFiles, type ImageFiles } from './image-files.ts'
import { besideLibraries, sharedLibrariesOf } from './shared-libraries.ts'

/** Whom functions run as. */
export const FUNCTION_USER = '64000:64000'
/** isola's own runtime clients, in each runtime's image. */
export const CLIENT_DIRECTORY = '/opt/isola'
export const CERTIFICATES_PATH = '/etc/ssl/certs/ca-certificates.crt'

const GUEST = fileURLToPath(new URL('./guest/', import.meta.url))
/** Python writes these beside its sources; they are not ours. */
const IS_COMPILED = /\/__pycache__$/

/** Where distributions keep the certificates of authorities. Else Node's own are taken. */
const CERTIFICATES_ON_HOST: readonly string[] = [CERTIFICATES_PATH, '/etc/pki/tls/certs/ca-bundle.crt']

export function createBaseFiles(): ImageFiles {
  const files = createImageFiles()
  files.addText(
    '/etc/passwd',
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\nfunction:x:64000:64000:function:/tmp:/bin/sh\n',
  )
  files.addText('/etc/group', 'root:x:0:\nnogroup:x:65534:\nfunction:x:64000:\n')
  files.addText('/etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n')
  for (const path of ['/tmp', '/var/tmp']) files.addDirectory(path, 0o1777)
  // Where the engine mounts something, the directory must be there: the root is read-only.
  for (const path of ['/dev', '/proc', '/sys', '/run/isola', '/var/task', '/root']) files.addDirectory(path)
  return files
}

/** What code may expect of the system around it, beside its own runtime. */
export function addSystem(files: ImageFiles): void {
  const certificates = CERTIFICATES_ON_HOST.find((path) => existsSync(path))
  if (certificates === undefined) files.addText(CERTIFICATES_PATH, `${rootCertificates.join('\n')}\n`)
  else files.addFile(certificates, CERTIFICATES_PATH)
  for (const name of PROGRAMS) {
    const path = ['/bin', '/usr/bin'].map((folder) => join(folder, name)).find((each) => existsSync(each))
    if (path !== undefined) files.addFile(path)
  }
}

export function addClient(files: ImageFiles): void {
  files.addTree(GUEST, { path: CLIENT_DIRECTORY, skip: (path) => IS_COMPILED.test(path) })
}

/** A shell for those who start one, and what the scripts of packages use. */
const PROGRAMS = [
  'sh',
  'cat',
  'chmod',
  'cp',
  'env',
  'ln',
  'ls',
  'mkdir',
  'mv',
  'rm',
  'sleep',
  'uname',
] as const

/** All that what is in there so far loads, and what it may look up later. */
export async function addLibraries(files: ImageFiles, programs: readonly string[]): Promise<void> {
  const libraries = await sharedLibrariesOf(programs)
  for (const path of [...libraries, ...besideLibraries(libraries, LOOKED_UP)]) files.addFile(path)
}

/** Names and addresses in older C libraries; what compiled packages of either language are linked with. */
const LOOKED_UP: readonly string[] = [
  'libnss_files.so.2',
  'libnss_dns.so.2',
  'libresolv.so.2',
  'libstdc++.so.6',
  'libgcc_s.so.1',
  'libz.so.1',
]
