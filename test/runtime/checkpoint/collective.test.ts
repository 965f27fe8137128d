import { describe, expect, test } from 'vitest'
import { LockstepError } from '../../../src/errors.js'
import type { Json } from '../../../src/runtime/checkpoint/checkpoints.js'
import { onRankZero } from '../../../src/runtime/checkpoint/collective.js'

type Bytes = Int32Array | Uint8Array

/** The broadcasts of `size` ranks in one process: rank 0's n-th buffer goes to everyone's n-th. */
function ranks(size: number) {
  const sent: ((data: Bytes) => void)[] = []
  const arrived: Promise<Bytes>[] = []
  const nth = (n: number) => {
    arrived[n] ??= new Promise((resolve) => {
      sent[n] = resolve
    })
    return arrived[n]
  }
  return Array.from({ length: size }, (_, rank) => {
    let calls = 0
    return {
      rank,
      async broadcast(data: unknown) {
        const mine = data as Bytes
        const data0 = nth(calls)
        if (rank === 0) sent[calls]!(mine.slice())
        calls++
        const theirs = await data0
        expect([mine.constructor, mine.length]).toEqual([theirs.constructor, theirs.length])
        mine.set(theirs)
      },
    }
  })
}

/** Rank 0's broadcasts, in the order they were made. */
function recorded(links: ReturnType<typeof ranks>): unknown[] {
  const sent: unknown[] = []
  const { broadcast } = links[0]!
  links[0]!.broadcast = (data) => {
    sent.push(data)
    return broadcast(data)
  }
  return sent
}

function run<T extends Json>(size: number, work: () => Promise<T>) {
  return Promise.allSettled(ranks(size).map((links) => onRankZero(links, work)))
}

describe('onRankZero', () => {
  test.each([1, 2, 4])('one works, %i get the result', async (size) => {
    let calls = 0
    const results = await run(size, async () => ({ path: 'é', step: ++calls }))
    expect(calls).toBe(1)
    expect(results).toEqual(Array(size).fill({ status: 'fulfilled', value: { path: 'é', step: 1 } }))
  })

  test('nothing found is a result', async () => {
    expect(await run(2, async () => null)).toEqual(Array(2).fill({ status: 'fulfilled', value: null }))
  })

  test('long work lets the others see that it goes on', async () => {
    const links = ranks(2)
    const sent = recorded(links)
    const work = async () => {
      await new Promise((resolve) => setTimeout(resolve, 1200))
      return 'done'
    }
    expect(await Promise.all(links.map((end) => onRankZero(end, work)))).toEqual(['done', 'done'])
    expect(sent.slice(0, -2)).toContainEqual(Int32Array.of(-1))
  })

  test("rank 0's error is everyone's", async () => {
    const message = 'cannot write checkpoint /x: ENOSPC: no space left on device'
    const results = await run(3, async () => {
      throw new LockstepError(message)
    })
    expect(results).toHaveLength(3)
    for (const result of results) {
      expect(result).toEqual({ status: 'rejected', reason: expect.any(LockstepError) })
      expect((result as PromiseRejectedResult).reason.message).toBe(message)
    }
  })

  test('a bug stays one: the others are told where to look', async () => {
    const bug = new TypeError('x is not a function')
    const [first, second] = await run(2, async () => {
      throw bug
    })
    expect((first as PromiseRejectedResult).reason).toBe(bug)
    expect((second as PromiseRejectedResult).reason).not.toBeInstanceOf(LockstepError)
    expect((second as PromiseRejectedResult).reason.message).toBe('rank 0: x is not a function')
  })
})
