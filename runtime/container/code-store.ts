/**
 * Unpacked code, by the digest of its archive: unpacked once, then every container has it read-only. A blank is
 * already running when it gets its code, so the files are linked into a directory that it sees: links take a moment
 * where copies take as long as the code is large.
 */
export interface CodeStore {
  /**
   * Directory with the unpacked archive. Throws `version_refused` for an archive that is broken or dangerous: not a zip,
   * `..` or absolute paths, links, more files or bytes than `CONTAINER_LIMITS` allow.
   */
  prepare(archive: { readonly sha256: string; load(): Promise<Uint8Array> }): Promise<string>
  /** Links all of it into `directory`, which is there and empty. */
  place(sha256: string, directory: string): Promise<void>
  /** Removes all but these, unless used a moment ago. */
  collect(kept: ReadonlySet<string>): Promise<void>
}
