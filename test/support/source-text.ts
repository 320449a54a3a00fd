// TypeScript source as the architecture check reads it: code with comments, strings and regular expressions blanked out, and the
// imports and exports found in it. Knows the language's tokens, not its grammar.

export interface ImportFound {
  /** As written between the quotes. */
  readonly specifier: string
  /** Names imported or exported again; empty for `import 'x'`, `*` for a namespace. */
  readonly names: readonly string[]
  /** Erased before the program runs. */
  readonly typeOnly: boolean
  readonly line: number
}

/** A slash after one of these begins a regular expression, not a division. */
const BEFORE_REGEX =
  /(?:^|[(,=:[!&|?{};<>+\-*%~^]|\b(?:return|typeof|case|in|of|do|else|void|delete|await|yield))$/

/**
 * The text with the contents of comments, strings, templates and regular expressions replaced by blanks: same length, same
 * lines. Code inside `${}` stays.
 */
export function bareCode(text: string): string {
  const out = text.split('')
  /** Depth of braces inside each template we are in. */
  const templates: number[] = []
  let code = ''
  let at = 0
  const blank = (from: number, to: number) => {
    for (let place = from; place < to; place++) if (out[place] !== '\n') out[place] = ' '
  }
  const skipTemplate = (from: number) => {
    let place = from
    while (place < text.length && text[place] !== '`') {
      if (text[place] === '\\') place++
      else if (text.startsWith('${', place)) {
        blank(from, place)
        templates.push(0)
        return place + 2
      }
      place++
    }
    blank(from, place)
    return place + 1
  }
  while (at < text.length) {
    const char = text[at] ?? ''
    const from = at
    if (text.startsWith('//', at) || (at === 0 && text.startsWith('#!'))) {
      at = endOf(text, '\n', at)
      blank(from, at)
    } else if (text.startsWith('/*', at)) {
      at = endOf(text, '*/', at + 2) + 2
      blank(from, at)
    } else if (char === "'" || char === '"') {
      at = endOfQuoted(text, char, at + 1)
      blank(from + 1, at)
      at++
      code = `${char}${char}`
    } else if (char === '`') {
      at = skipTemplate(at + 1)
      code = '`'
    } else if (char === '/' && BEFORE_REGEX.test(code.trimEnd())) {
      at = endOfRegex(text, at + 1)
      blank(from + 1, at)
      code = '/'
    } else {
      const depth = templates.at(-1)
      if (depth !== undefined && char === '{') templates[templates.length - 1] = depth + 1
      if (depth !== undefined && char === '}') {
        if (depth === 0) {
          templates.pop()
          at = skipTemplate(at + 1)
          code = '`'
          continue
        }
        templates[templates.length - 1] = depth - 1
      }
      code = (code + char).slice(-24)
      at++
    }
  }
  return out.join('')
}

/** All imports, re-exports and `import()` of a file, in order. */
export function importsIn(text: string, bare: string = bareCode(text)): ImportFound[] {
  const found: ImportFound[] = []
  const statement =
    /(?:^|[;\n}])\s*(?:(import|export)(?![\w$(.])([^'"`;]*?)\bfrom\s*(['"])|(import)\s*(['"]))|\bimport\s*\(\s*(['"`])/g
  for (const match of bare.matchAll(statement)) {
    const opening = match.index + match[0].length
    const quote = match[3] ?? match[5] ?? match[6] ?? "'"
    const specifier = text.slice(opening, endOfQuoted(text, quote, opening))
    const clause = match[2] ?? ''
    const names = clause.includes('{') ? namesIn(clause) : clause.includes('*') ? ['*'] : []
    const listed =
      clause
        .match(/\{([^}]*)\}/)?.[1]
        ?.split(',')
        .filter((name) => name.trim() !== '') ?? []
    const allTypes = listed.length > 0 && listed.every((name) => /^\s*type\s/.test(name))
    found.push({
      specifier,
      names,
      typeOnly: /^\s*type\b(?!\s*(?:,|$))/.test(clause) || allTypes,
      line: text.slice(0, opening).split('\n').length,
    })
  }
  return found
}

/** Names on the left of `as`, without `type`. */
function namesIn(clause: string): string[] {
  const [, list = ''] = clause.match(/\{([^}]*)\}/) ?? []
  return list
    .split(',')
    .map(
      (name) =>
        name
          .trim()
          .replace(/^type\s+/, '')
          .split(/\s+as\s+/)[0] ?? '',
    )
    .filter((name) => name !== '')
}

function endOf(text: string, mark: string, from: number): number {
  const at = text.indexOf(mark, from)
  return at === -1 ? text.length : at
}

function endOfQuoted(text: string, quote: string, from: number): number {
  let at = from
  while (at < text.length && text[at] !== quote && text[at] !== '\n') at += text[at] === '\\' ? 2 : 1
  return Math.min(at, text.length)
}

function endOfRegex(text: string, from: number): number {
  let at = from
  let inClass = false
  while (at < text.length && text[at] !== '\n' && (inClass || text[at] !== '/')) {
    if (text[at] === '\\') at++
    else if (text[at] === '[') inClass = true
    else if (text[at] === ']') inClass = false
    at++
  }
  at++
  while (at < text.length && /[a-z]/.test(text[at] ?? '')) at++
  return Math.min(at, text.length)
}
