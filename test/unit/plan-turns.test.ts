// Turns: of all hosts that want to ask the origin about one thing, one asks and the others are told; nobody waits for one that is gone.
import assert from 'node:assert/strict'
import test, { describe } from 'node:test'
import {
  keepersOf,
  MAX_LAPSES,
  MAX_SUBJECTS,
  MAX_VALUE_LIFE_MS,
  TURN_MS,
  TurnTable,
} from '@shoal/agent/plan/turn-table.ts'
import fc from 'fast-check'

const found = (value: string, lifeMs = 60_000) => ({ value, digest: `digest of ${value}`, lifeMs })

describe('a turn', () => {
  test('goes to who comes first; the others wait, and are then told', () => {
    const table = new TurnTable()
    assert.deepEqual(table.want('s', 'a', undefined, 0), { turn: 'yours' })
    assert.deepEqual(table.want('s', 'b', undefined, 10), { turn: 'wait', until: TURN_MS })
    assert.equal(table.told('s', 'a', found('link', 1_000.7), 20), true)
    assert.deepEqual(table.want('s', 'b', undefined, 30), {
      turn: 'told',
      value: 'link',
      lifeMs: 990,
      from: 'a',
    })
    assert.deepEqual(table.want('s', 'b', undefined, 1_021), { turn: 'yours' }, 'its life is over')
  })

  test('that is not used in time, fails or whose host is gone passes on', () => {
    const table = new TurnTable()
    table.want('late', 'a', undefined, 0)
    assert.equal(table.want('late', 'b', undefined, TURN_MS).turn, 'yours')
    assert.equal(table.told('late', 'a', found('too late'), TURN_MS + 1), false)
    table.want('failed', 'a', undefined, 0)
    table.failed('failed', 'a', 10)
    assert.equal(table.want('failed', 'b', undefined, 20).turn, 'yours')
    assert.equal(table.want('failed', 'c', undefined, 20).turn, 'yours', 'and none waits for the next')
    table.want('gone', 'a', undefined, 0)
    assert.deepEqual(table.gone('a'), ['gone'])
    assert.equal(table.want('gone', 'b', undefined, 1).turn, 'yours')
  })

  test('of a host that takes turns and never uses them makes nobody wait in the end', () => {
    const table = new TurnTable()
    let now = 0
    for (let one = 0; one < MAX_LAPSES; one++) {
      table.want(`${one}`, 'squatter', undefined, now)
      assert.equal(table.want(`${one}`, 'b', undefined, now).turn, 'wait')
      now += TURN_MS
      assert.equal(table.want(`${one}`, 'b', undefined, now).turn, 'yours')
    }
    table.want('next', 'squatter', undefined, now)
    assert.equal(table.want('next', 'c', undefined, now).turn, 'yours')
    assert.equal(table.want('next', 'd', undefined, now).turn, 'wait', 'for the honest one')
  })

  test('is needed to say what was found, and to give it up', () => {
    const table = new TurnTable()
    assert.equal(table.told('s', 'liar', found('lie'), 0), false)
    table.want('s', 'a', undefined, 0)
    table.failed('s', 'liar', 1)
    assert.equal(table.told('s', 'liar', found('lie'), 1), false)
    assert.equal(table.want('s', 'b', undefined, 1).turn, 'wait')
  })

  test('comes again to one whom the value did not serve, while others are still told it', () => {
    const table = new TurnTable()
    table.want('s', 'a', undefined, 0)
    table.told('s', 'a', found('old'), 0)
    assert.equal(table.want('s', 'b', 'digest of old', 1).turn, 'yours')
    assert.equal(table.want('s', 'c', 'digest of old', 1).turn, 'wait')
    assert.equal(table.want('s', 'd', undefined, 1).turn, 'told')
    table.told('s', 'b', found('new'), 2)
    const told = table.want('s', 'c', 'digest of old', 3)
    assert.equal(told.turn === 'told' ? told.value : told.turn, 'new')
  })

  test('table of a keeper is bounded, and so is the life of what it holds', () => {
    const table = new TurnTable()
    for (let one = 0; one < 5 * MAX_SUBJECTS; one++) table.want(`${one}`, 'a', undefined, 0)
    assert.equal(table.size, MAX_SUBJECTS)
    table.want('s', 'a', undefined, 0)
    table.told('s', 'a', found('x', 1e12), 0)
    assert.equal(table.want('s', 'b', undefined, MAX_VALUE_LIFE_MS).turn, 'yours')
  })

  test('whatever hosts do, two are never given a fresh turn at the same time, and nobody waits longer than one takes', () => {
    const step = fc.record({
      host: fc.constantFrom('a', 'b', 'c', 'd'),
      does: fc.constantFrom('want' as const, 'told' as const, 'gone' as const),
      later: fc.nat(2_000),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const table = new TurnTable()
        let now = 0
        let holder: { readonly host: string; readonly since: number } | undefined
        for (const { host, does, later } of steps) {
          now += later
          if (does === 'gone') {
            table.gone(host)
            if (holder?.host === host) holder = undefined
          } else if (does === 'told') {
            if (table.told('s', host, found('x', 1_000), now)) holder = undefined
          } else {
            const verdict = table.want('s', host, undefined, now)
            if (verdict.turn === 'wait') assert.ok(verdict.until > now && verdict.until <= now + TURN_MS)
            if (verdict.turn !== 'yours') continue
            if (holder !== undefined && holder.host !== host) assert.ok(now - holder.since >= TURN_MS)
            holder = { host, since: now }
          }
        }
      }),
    )
  })
})

test('all hosts find the same keeper, another for another key, and the next one when it is gone', () => {
  const hosts = Array.from({ length: 12 }, (_, index) => `host-${index}`)
  const first = keepersOf('key', hosts)
  assert.deepEqual(keepersOf('key', hosts.toReversed()), first)
  assert.deepEqual(
    keepersOf(
      'key',
      hosts.filter((host) => host !== first[0]),
    ),
    first.slice(1),
  )
  const keepers = new Set(Array.from({ length: 200 }, (_, index) => keepersOf(`key ${index}`, hosts)[0]))
  assert.ok(keepers.size >= 10, 'the work is spread')
})
