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
  /** `PutFunctionConcurrency`, where it is 0 and so lets nothing through; any other number is the policy's `quota`. */
  readonly reservedConcurrency?: number
  /** As it was asked for, e.g. `python3.12`; what runs is the content's. */
  readonly runtime?: string
  /** As it was asked for. The content has the image's id. */
  readonly imageUri?: string
  /** `PutProvisionedConcurrencyConfig`: for which version or alias the policy's `min` was set. */
  readonly provisioned?: LambdaProvisioned
  /** ISO 8601, UTC; of the event invoke config. */
  readonly eventInvokeModified?: string
}

export interface LambdaProvisioned {
  readonly qualifier: string
  readonly lastModified: string
}

/** For signing requests to the Lambda API. Its secret is shown once. */
export interface AccessKey {
  readonly accessKeyId: string
  readonly description: string
  /** ISO 8601, UTC. */
  readonly createdAt: string
}

export interface NewAccessKey extends AccessKey {
  readonly secretAccessKey: string
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
