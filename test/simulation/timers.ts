// Times by number (a flow, a host), the earliest first, each changed in place: an indexed binary heap. Millions of changes a second of
// simulated traffic would drown a queue that only ever adds.

const NOWHERE = -1

export class Timers {
  #ids: number[] = []
  #times: number[] = []
  #places: number[] = []

  /** The earliest time; infinite when there is none. */
  get nextAt(): number {
    return this.#times[0] ?? Number.POSITIVE_INFINITY
  }

  /** Whose it is; -1 when there is none. */
  get nextId(): number {
    return this.#ids[0] ?? NOWHERE
  }

  set(id: number, at: number): void {
    const known = this.#places[id] ?? NOWHERE
    if (at === Number.POSITIVE_INFINITY) {
      if (known !== NOWHERE) this.#remove(known)
      return
    }
    if (known === NOWHERE) {
      this.#ids.push(id)
      this.#times.push(at)
      this.#places[id] = this.#ids.length - 1
      this.#rise(this.#ids.length - 1)
      return
    }
    const old = this.#times[known] ?? 0
    this.#times[known] = at
    if (at < old) this.#rise(known)
    else this.#sink(known)
  }

  clear(id: number): void {
    const known = this.#places[id] ?? NOWHERE
    if (known !== NOWHERE) this.#remove(known)
  }

  #remove(place: number): void {
    const last = this.#ids.length - 1
    this.#places[this.#ids[place] ?? NOWHERE] = NOWHERE
    const id = this.#ids.pop() ?? NOWHERE
    const at = this.#times.pop() ?? 0
    if (place === last) return
    this.#ids[place] = id
    this.#times[place] = at
    this.#places[id] = place
    this.#rise(place)
    this.#sink(this.#places[id] ?? place)
  }

  #rise(from: number): void {
    let place = from
    const id = this.#ids[place] ?? NOWHERE
    const at = this.#times[place] ?? 0
    while (place > 0) {
      const parent = (place - 1) >> 1
      if ((this.#times[parent] ?? 0) <= at) break
      this.#put(place, this.#ids[parent] ?? NOWHERE, this.#times[parent] ?? 0)
      place = parent
    }
    this.#put(place, id, at)
  }

  #sink(from: number): void {
    let place = from
    const id = this.#ids[place] ?? NOWHERE
    const at = this.#times[place] ?? 0
    const count = this.#ids.length
    for (;;) {
      let child = 2 * place + 1
      if (child >= count) break
      if (child + 1 < count && (this.#times[child + 1] ?? 0) < (this.#times[child] ?? 0)) child++
      if ((this.#times[child] ?? 0) >= at) break
      this.#put(place, this.#ids[child] ?? NOWHERE, this.#times[child] ?? 0)
      place = child
    }
    this.#put(place, id, at)
  }

  #put(place: number, id: number, at: number): void {
    this.#ids[place] = id
    this.#times[place] = at
    this.#places[id] = place
  }
}
