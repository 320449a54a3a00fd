// PURE. How often each host may gossip so that what all of them say stays within what one host may spend on hearing and
// passing it on. Every host works it out alike from the number of hosts it knows. Publishes nothing itself.

/** What health reports of all hosts may cost each of them, each way. */
export const HEALTH_BYTES_PER_SECOND = 4_000
/** What one health report, wherever it began, costs each host each way; measured, see docs/spec/gossip.md. */
export const HEALTH_COST_BYTES = 2_000
export const SHORTEST_INTERVAL_MS = 10_000
/** Above the number of hosts that gives this the budget is exceeded rather than nothing heard of a host any more. */
export const LONGEST_INTERVAL_MS = 10 * 60_000
/** Each pause is up to this share longer or shorter, so that hosts that started together drift apart. */
const JITTER = 0.2
/** A message is taken for true until so many more should have come. */
const MISSED = 3
/** And so long in any case: who started with others did not know how many they are, and they are counted by what is true yet. */
const SHORTEST_LIFETIME_MS = 15 * 60_000

/** What telling neighbours which chunks came may cost a host, each way, and what one tell costs; measured. */
const TELL_BYTES_PER_SECOND = 5_000
const TELL_COST_BYTES = 160
const SHORTEST_TELL_GAP_MS = 100
const LONGEST_TELL_GAP_MS = 1_000

/** Time between two tells of one host to all its neighbours: the more there are, the longer, and the more chunks in each. */
export function tellGapMs(neighbours: number): number {
  const gapMs = (neighbours * TELL_COST_BYTES * 1_000) / TELL_BYTES_PER_SECOND
  return Math.min(LONGEST_TELL_GAP_MS, Math.max(SHORTEST_TELL_GAP_MS, gapMs))
}

/**
 * Average time between two messages of one host.
 * @param hosts that gossip the like, this one included
 * @param costBytes what one message costs each host, with everything
 * @param bytesPerSecond what all such messages may cost each host
 */
export function gossipIntervalMs(
  hosts: number,
  costBytes: number = HEALTH_COST_BYTES,
  bytesPerSecond: number = HEALTH_BYTES_PER_SECOND,
): number {
  const intervalMs = (Math.max(1, hosts) * costBytes * 1_000) / bytesPerSecond
  return Math.min(LONGEST_INTERVAL_MS, Math.max(SHORTEST_INTERVAL_MS, intervalMs))
}

/** The next pause around an average. @param luck uniform in [0, 1) */
export function jittered(intervalMs: number, luck: number): number {
  return intervalMs * (1 - JITTER + 2 * JITTER * luck)
}

/** How long others may take a message for true that is renewed so often. */
export function lifetimeMs(intervalMs: number): number {
  return Math.max(SHORTEST_LIFETIME_MS, MISSED * intervalMs)
}
