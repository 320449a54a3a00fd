// PURE. Which files of a repo a pull takes: glob patterns as huggingface_hub reads them (Python fnmatch: `*` also crosses `/`,
// `?` is one character, `[a-z]` and `[!a-z]` are sets; a pattern that ends in `/` means everything below).

export interface FileFilter {
  /** Empty: everything. */
  readonly include: readonly string[]
  readonly exclude: readonly string[]
}

/** True when the pull takes the file at `path`. */
export function takes(filter: FileFilter, path: string): boolean {
  const some = (patterns: readonly string[]) => patterns.some((pattern) => matches(pattern, path))
  return (filter.include.length === 0 || some(filter.include)) && !some(filter.exclude)
}

/** Case matters. At most one step for each pair of characters, pattern and path: nothing that is written there can make it slow. */
export function matches(pattern: string, path: string): boolean {
  const tokens = parse(pattern.endsWith('/') ? `${pattern}*` : pattern)
  const text = [...path]
  // Greedy with one point of return, as only the last star ever has to be tried again.
  let token = 0
  let at = 0
  let star = -1
  let starAt = 0
  while (at < text.length) {
    const current = tokens[token]
    if (current === 'star') {
      star = token++
      starAt = at
    } else if (current !== undefined && fits(current, text[at] ?? '')) {
      token++
      at++
    } else if (star >= 0) {
      token = star + 1
      at = ++starAt
    } else return false
  }
  while (tokens[token] === 'star') token++
  return token === tokens.length
}

type Token =
  | 'star'
  | 'any'
  | { readonly literal: string }
  | { readonly ranges: readonly (readonly [from: string, to: string])[]; readonly negated: boolean }

function fits(token: Exclude<Token, 'star'>, character: string): boolean {
  if (token === 'any') return true
  if ('literal' in token) return token.literal === character
  const code = codeOf(character)
  const inside = token.ranges.some(([from, to]) => code >= codeOf(from) && code <= codeOf(to))
  return inside !== token.negated
}

function parse(pattern: string): Token[] {
  const tokens: Token[] = []
  const text = [...pattern]
  for (let at = 0; at < text.length; at++) {
    const character = text[at] ?? ''
    if (character === '*') {
      if (tokens.at(-1) !== 'star') tokens.push('star')
    } else if (character === '?') tokens.push('any')
    else if (character === '[') {
      const set = parseSet(text, at)
      tokens.push(set?.token ?? { literal: '[' })
      if (set !== undefined) at = set.end
    } else tokens.push({ literal: character })
  }
  return tokens
}

/** undefined when no bracket closes it: then `[` is itself. */
function parseSet(
  text: readonly string[],
  open: number,
): { readonly token: Token; readonly end: number } | undefined {
  const negated = text[open + 1] === '!'
  const first = open + (negated ? 2 : 1)
  const close = text.indexOf(']', first + 1)
  if (close === -1) return undefined
  const ranges: [string, string][] = []
  for (let at = first; at < close; at++) {
    const from = text[at] ?? ''
    if (text[at + 1] === '-' && at + 2 < close) {
      ranges.push([from, text[at + 2] ?? ''])
      at += 2
    } else ranges.push([from, from])
  }
  return { token: { ranges, negated }, end: close }
}

/** Ranges go by code points, as in Python, not by the halves that some are written in. */
function codeOf(character: string): number {
  return character.codePointAt(0) ?? 0
}
