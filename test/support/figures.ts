// Figures that depend on how busy the machine is. With SHOAL_STRICT=1 they are held to their targets; otherwise to limits that only a
// broken rule exceeds, and the figure itself is printed: a test that fails because of a neighbour on the machine tells nothing.

const strict = process.env.SHOAL_STRICT === '1'

export function isStrict(): boolean {
  return strict
}

/** @param target what the product is held to, on a quiet machine @param loose what even a busy one must keep */
export function figure(target: number, loose: number): number {
  return strict ? target : loose
}
