import { afterEach, describe, expect, it, vi } from 'vitest'
import type { RankState } from '../../launcher/rank-state.js'
import type { Terms } from '../../launcher/rendezvous/admission.js'
import { Coordinator, type Member } from '../../launcher/rendezvous/coordinator.js'
import type { Hello, Order } from '../../launcher/rendezvous/messages.js'

const terms: Terms = {
  ...{ version: '1.0.0', jobName: undefined, runId: 'job', nodes: { min: 2, max: 2 } },
  ...{ maxRestarts: 0, meetSeconds: 60, lastCallSeconds: 5 },
}

/** A job whose nodes are objects of the test. */
function job(change: Partial<Terms> = {}) {
  vi.useFakeTimers()
  const places: { closed: boolean }[] = []
  const coordinator = new Coordinator({ ...terms, ...change }, async () => {
    const place = { closed: false }
    places.push(place)
    return {
      ...{ host: '10.0.0.1', port: 4000 + places.length },
      close: async () => {
        place.closed = true
      },
    }
  })
  let launchers = 0
  const add = async (hostName: string, hello: Partial<Hello> = {}) => {
    const orders: Order[] = []
    const member: Member = {
      hello: {
        ...{
          launcher: `${launchers++}`,
          version: '1.0.0',
          jobName: undefined,
          nodeRank: undefined,
          ranks: 2,
        },
        ...{ nodes: change.nodes ?? terms.nodes, maxRestarts: change.maxRestarts ?? 0 },
        ...{ hostName, address: `${hostName}.example` },
        ...hello,
      },
      isHome: hostName === 'home',
      send: (order) => orders.push(order),
    }
    coordinator.add(member)
    await turn()
    return new TestNode(coordinator, member, orders)
  }
  return { coordinator, places, add }
}

class TestNode {
  constructor(
    readonly coordinator: Coordinator,
    readonly member: Member,
    readonly orders: Order[],
  ) {}

  /** The last order. */
  get order(): Order | undefined {
    return this.orders.at(-1)
  }

  get assignment() {
    const start = this.orders.findLast((order) => order.op === 'start')
    if (start?.op !== 'start') throw new Error('not started')
    return start.assignment
  }

  async failing(): Promise<void> {
    const { attempt } = this.assignment
    this.coordinator.report(this.member, { op: 'failing', attempt, timedOut: false })
    await turn()
  }

  /** All its ranks have ended so. */
  async ended(change: Partial<RankState> = {}, now = Date.now()): Promise<void> {
    const { attempt, firstRank } = this.assignment
    const state = (rank: number): RankState => ({
      ...{
        rank,
        pid: rank,
        hostName: this.member.hello.hostName,
        running: false,
        code: 0,
        signal: null,
        at: now,
      },
      ...{ failure: undefined, lastLines: [], hints: [] },
      ...change,
    })
    const states = [state(firstRank), state(firstRank + 1)]
    this.coordinator.report(this.member, { op: 'ended', attempt, now, states })
    await turn()
  }

  async leave(): Promise<void> {
    this.coordinator.report(this.member, { op: 'leave', signal: 'SIGTERM' })
    await turn()
  }

  async lost(): Promise<void> {
    this.coordinator.lost(this.member, 'was closed')
    await turn()
  }
}

async function turn(): Promise<void> {
  await vi.advanceTimersByTimeAsync(0)
}

afterEach(() => {
  vi.useRealTimers()
})

describe('a meeting', () => {
  it('numbers nodes and ranks as nodes come', async () => {
    const { add } = job()
    const home = await add('home', { ranks: 1 })
    expect(home.orders).toEqual([])
    const other = await add('b', { ranks: 3 })
    expect(home.assignment).toMatchObject({
      ...{ attempt: 0, restarts: 0, runId: 'job', nodeRank: 0, nodes: 2, firstRank: 0, worldSize: 4 },
      ...{ address: 'home.example', storeHost: '10.0.0.1', storePort: 4001 },
    })
    expect(other.assignment).toMatchObject({ nodeRank: 1, firstRank: 1, address: 'b.example' })
  })

  it('numbers nodes as their users do', async () => {
    const { add } = job()
    const [last, first] = [await add('home', { nodeRank: 1 }), await add('b', { nodeRank: 0 })]
    expect([first.assignment.nodeRank, last.assignment.nodeRank]).toEqual([0, 1])
  })

  it('begins with all at once, with MIN after the last call', async () => {
    const { add } = job({ nodes: { min: 1, max: 3 } })
    const home = await add('home')
    await vi.advanceTimersByTimeAsync(4999)
    await add('b')
    expect(home.orders).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(home.assignment.nodes).toBe(2)
  })

  it.each<[string, Partial<Hello>, RegExp]>([
    [
      'another version',
      { version: '2.0.0' },
      /node b .* has lockstep 2\.0\.0, .* endpoint 1\.0\.0: install the same/,
    ],
    [
      'other terms',
      { maxRestarts: 3 },
      /--nnodes 2 --max-restarts 3, .* --nnodes 2 --max-restarts 0: give all/,
    ],
    ['another job', { jobName: 'mine' }, /--rdzv-id "mine", the node at the endpoint none: another job/],
    [
      'a number that is taken',
      { nodeRank: 0 },
      /--node-rank 0 is claimed by two nodes, home \(.*\) and b \(/,
    ],
  ])('sends away who comes with %s', async (_, hello, message) => {
    const { add } = job()
    await add('home', { nodeRank: 0 })
    expect((await add('b', hello)).order).toEqual({
      ...{ op: 'end', exitCode: 2, report: expect.stringMatching(message) },
    })
  })

  it('sends away who is one too many', async () => {
    const { add } = job()
    await add('home')
    await add('b')
    expect((await add('c')).order).toMatchObject({
      report: expect.stringMatching(/all its 2 nodes.*c .* too many/),
    })
  })

  it('ends when too few have come in time, naming who is there', async () => {
    const { add } = job({ nodes: { min: 3, max: 3 } })
    const home = await add('home')
    await vi.advanceTimersByTimeAsync(60_000)
    expect(home.order).toMatchObject({
      ...{ op: 'end', exitCode: 2 },
      report: expect.stringMatching(/1 of at least 3 nodes came within 60 s .*: only home \(home\.example\)/),
    })
  })
})

describe('a job', () => {
  it('ends well when all ranks have', async () => {
    const { add, places } = job()
    const [home, b] = [await add('home'), await add('b')]
    await home.ended()
    expect(home.order?.op).toBe('start')
    await b.ended()
    expect([home.order, b.order]).toEqual([0, 1].map(() => ({ op: 'end', report: '', exitCode: 0 })))
    expect(places).toEqual([{ closed: true }])
  })

  it('stops everywhere at a failure, and every node is told the cause', async () => {
    const { add } = job()
    const [home, b] = [await add('home'), await add('b')]
    await b.failing()
    expect([home.order, b.order]).toMatchObject([0, 1].map(() => ({ op: 'stop', reason: 'failure' })))
    await b.ended({ code: 3 })
    await home.ended({ code: null, signal: 'SIGTERM', running: true })
    const report = expect.stringMatching(/\nddp-launch: rank 2 \(pid 2 on b\) ended with exit code 3$/)
    expect([home.order, b.order]).toEqual([0, 1].map(() => ({ op: 'end', exitCode: 3, report })))
  })

  it('starts again after a failure, as often as it may', async () => {
    const { add, places } = job({ maxRestarts: 1 })
    const [home, b] = [await add('home'), await add('b')]
    for (const node of [home, b]) {
      await node.failing()
      await node.ended({ code: 1 })
    }
    expect(home.orders).toContainEqual({
      ...{ op: 'say', text: expect.stringMatching(/\nddp-launch: all ranks start again, restart 1 of 1$/) },
    })
    expect(home.assignment).toMatchObject({ attempt: 1, restarts: 1, worldSize: 4, storePort: 4002 })
    expect(places.map(({ closed }) => closed)).toEqual([true, false])
    for (const node of [b, home]) {
      await node.failing()
      await node.ended({ code: 1 })
    }
    expect(b.order).toMatchObject({ op: 'end', exitCode: 1 })
  })

  it('ends when a node is lost, naming it', async () => {
    const { add } = job()
    const [home, b] = [await add('home'), await add('b')]
    await b.lost()
    expect(home.order).toMatchObject({ op: 'stop', reason: 'failure' })
    await home.ended({ code: 1 })
    expect(home.order).toMatchObject({
      op: 'end',
      report: expect.stringMatching(/node b \(b\.example\) was lost/),
    })
  })

  it('tells earlier from later by one clock', async () => {
    const { add } = job()
    const [home, b] = [await add('home'), await add('b')]
    await home.failing()
    const now = Date.now()
    await home.ended({ code: 1, at: now - 50 })
    await b.ended({ code: 2, at: now + 3_600_000 - 90 }, now + 3_600_000) // its clock is an hour ahead
    expect(home.order).toMatchObject({ op: 'end', exitCode: 2 })
  })
})

describe('an elastic job', () => {
  const elastic = { nodes: { min: 1, max: 2 }, maxRestarts: 1 }

  it('goes on without a node that is lost, and takes a new one in', async () => {
    const { add } = job(elastic)
    const [home, b] = [await add('home'), await add('b')]
    await b.lost()
    await home.ended({ code: 1 })
    expect(home.assignment).toMatchObject({ attempt: 1, restarts: 1, nodes: 1, worldSize: 2 })
    const back = await add('b')
    expect(home.order).toMatchObject({ op: 'stop', reason: 'request' })
    await home.ended()
    expect(home.assignment).toMatchObject({ attempt: 2, restarts: 1, nodes: 2, worldSize: 4 })
    expect(back.assignment).toMatchObject({ nodeRank: 1 })
  })

  it('takes a node back whose silence it has not noticed yet', async () => {
    const { add } = job(elastic)
    const [home] = [await add('home'), await add('b', { launcher: 'of b' })]
    const back = await add('b', { launcher: 'of b' })
    expect(home.order).toMatchObject({ op: 'stop', reason: 'failure' })
    await home.ended({ code: 1 })
    expect(home.assignment).toMatchObject({ attempt: 1, restarts: 1, nodes: 2 })
    expect(back.assignment).toMatchObject({ attempt: 1, nodeRank: 1 })
  })

  it('goes on without a node that was asked to leave, at no cost', async () => {
    const { add } = job(elastic)
    const [home, b] = [await add('home'), await add('b')]
    await b.leave()
    expect([home.order, b.order]).toMatchObject([0, 1].map(() => ({ op: 'stop', reason: 'request' })))
    await b.ended()
    await home.ended()
    expect(b.order).toMatchObject({ op: 'end', exitCode: 143 })
    expect(home.assignment).toMatchObject({ attempt: 1, restarts: 0, nodes: 1 })
  })

  it('ends when the node at the endpoint leaves', async () => {
    const { add } = job(elastic)
    const [home, b] = [await add('home'), await add('b')]
    await home.leave()
    await b.ended()
    await home.ended()
    const report = 'ddp-launch: SIGTERM at home, all ranks were stopped'
    expect([home.order, b.order]).toEqual([0, 1].map(() => ({ op: 'end', exitCode: 143, report })))
  })

  it('tells what went wrong while ranks were saving', async () => {
    const { add } = job({ nodes: { min: 1, max: 1 } })
    const home = await add('home')
    await home.leave()
    const failure = {
      text: 'disk is full',
      oneLine: true,
      exitCode: 2,
      secondary: false,
      timedOut: false,
      at: 0,
    }
    await home.ended({ code: 2, failure })
    expect(home.orders.slice(-2)).toMatchObject([
      { op: 'say', text: expect.stringMatching(/disk is full$/) },
      { op: 'end', exitCode: 143, report: 'ddp-launch: SIGTERM, all ranks were stopped' },
    ])
  })

  it('waits for enough nodes when too few are left', async () => {
    const { add } = job({ maxRestarts: 1 })
    const [home, b] = [await add('home'), await add('b')]
    await b.lost()
    await home.ended({ code: 1 })
    expect(home.order).toMatchObject({
      op: 'say',
      text: expect.stringMatching(/1 of at least 2 nodes are there/),
    })
    await add('c')
    expect(home.assignment).toMatchObject({ attempt: 1, nodes: 2 })
  })
})
