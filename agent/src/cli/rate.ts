// Rates as people write them: `20MB`, `1.5 MB/s`, `100mbit`, `unlimited`. Pure.
import { InvalidArgumentError } from 'commander'

/** Bytes a second of one unit. Bits in small letters of `bit`, bytes with a capital B or none at all. */
const UNITS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  bit: 1 / 8,
  kbit: 1e3 / 8,
  mbit: 1e6 / 8,
  gbit: 1e9 / 8,
}

/** Bytes a second; infinite: no limit. @throws InvalidArgumentError */
export function rateWord(text: string): number {
  if (/^(?:unlimited|none)$/i.test(text.trim())) return Number.POSITIVE_INFINITY
  const match = /^(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)(?:\/s|ps)?$/i.exec(text.trim())
  const [, amount = '', unit = ''] = match ?? []
  const factor = UNITS[unit.toLowerCase() || 'b']
  if (match === null || factor === undefined)
    throw new InvalidArgumentError('expected a rate, as in 20MB, 1.5MiB or 100mbit a second, or "unlimited".')
  return Math.round(Number(amount) * factor)
}
