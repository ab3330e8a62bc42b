/**
 * What the Lambda API keeps of a function beside what every function has. AWS counts versions and names aliases; isola
 * names versions by their content, so a number or an alias is a name for one.
 */
export interface LambdaRecord {
  readonly role: string
  readonly description: string
  readonly tags: Readonly<Record<string, string>>
  /** Of `$LATEST`. */
  readonly revisionId: string
  /** ISO 8601, UTC. */
  readonly lastModified: string
  /** Published, oldest first; a number is never used again. */
  readonly versions: readonly LambdaVersion[]
  /** Of the version that is published next. */
  readonly nextVersion: number
  readonly aliases: Readonly<Record<string, LambdaAlias>>
  readonly url?: LambdaUrl
  /** `PutFunctionConcurrency`. */
  readonly reservedConcurrency?: number
}

export interface LambdaVersion {
  readonly number: number
  readonly versionId: string
  readonly description: string
  readonly createdAt: string
}

export interface LambdaAlias {
  readonly description: string
  /** A number of `versions`, or `$LATEST`. */
  readonly functionVersion: string
  /** Of `AdditionalVersionWeights`: version → share of 1. */
  readonly weights: Readonly<Record<string, number>>
  readonly revisionId: string
}

export interface LambdaUrl {
  readonly authType: 'NONE' | 'AWS_IAM'
  readonly invokeMode: 'BUFFERED' | 'RESPONSE_STREAM'
  readonly createdAt: string
  readonly lastModified: string
  readonly cors?: Readonly<Record<string, unknown>>
}
