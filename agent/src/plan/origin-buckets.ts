// PURE. Names of what an origin counts apart, and how one host tells another what it was told about them. Shapes only.

/** The Hub counts API calls and file look-ups apart; `content` is what its storage hosts serve, under no bucket. */
export type OriginBucket = 'api' | 'resolvers' | 'content'
export const ORIGIN_BUCKETS = ['api', 'resolvers', 'content'] as const satisfies readonly OriginBucket[]

/** What a host was told about a bucket of a budget, as it tells others. Times in milliseconds from when it says so. */
export interface BucketWord {
  readonly bucket: OriginBucket
  readonly remaining?: number | undefined
  readonly resetMs?: number | undefined
  /** It was refused and will not ask for so long. */
  readonly blockedMs?: number | undefined
}
