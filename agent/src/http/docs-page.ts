// PURE. A plain page that lists the routes of the API document. Holds no script and asks no other host for anything.

export const DOCS_STYLE = `body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td{border-top:1px solid #ccc;padding:.4rem .6rem;vertical-align:top}
code{font-size:.95em}td:first-child{white-space:nowrap}`

export const DOCS_HEADERS = {
  'Content-Security-Policy':
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
} as const

interface Operation {
  readonly summary?: string
  readonly tags?: readonly string[]
}

/** @param document an OpenAPI 3.1 document */
export function docsPage(document: {
  readonly info: { readonly title: string; readonly version: string; readonly description?: string }
  readonly paths?: object
}): string {
  const rows = new Map<string, string[]>()
  for (const [path, item] of Object.entries(document.paths ?? {})) {
    for (const [method, value] of Object.entries(item as object)) {
      const operation = value as Operation
      const tag = operation.tags?.[0] ?? 'other'
      const row = `<tr><td><code>${escapeHtml(method.toUpperCase())}</code></td><td><code>${escapeHtml(path)}</code></td><td>${escapeHtml(operation.summary ?? '')}</td></tr>`
      rows.set(tag, [...(rows.get(tag) ?? []), row])
    }
  }
  const tables = [...rows].map(([tag, list]) => `<h2>${escapeHtml(tag)}</h2><table>${list.join('')}</table>`)
  const { title, version, description } = document.info
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(title)}</title>
<link rel="stylesheet" href="/docs/style.css"></head><body><h1>${escapeHtml(title)} ${escapeHtml(version)}</h1>
<p>${escapeHtml(description ?? '')}</p><p>As data: <a href="/openapi.json">/openapi.json</a></p>${tables.join('')}</body></html>`
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
