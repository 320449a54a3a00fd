// The little the mesh asks of a logger. Messages are constant text; what varies goes into fields. Never a secret.

export type MeshLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields: Readonly<Record<string, string | number | boolean>>,
) => void
