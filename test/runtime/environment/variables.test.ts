import { describe, expect, it } from 'vitest'
import {
  type RankEnvironment,
  rankVariables,
  readEnvironment,
} from '../../../src/runtime/environment/variables.js'

const environment: RankEnvironment = {
  rank: 2,
  localRank: 2,
  worldSize: 4,
  localWorldSize: 4,
  groupRank: 1,
  address: '10.0.0.2',
  masterAddr: '127.0.0.1',
  masterPort: 40123,
  token: 'ab'.repeat(32),
  threads: 1,
  timeoutMs: 1500,
  transport: 'ws',
}

describe('environment of a rank', () => {
  it('reads back what the launcher sets', () => {
    expect(readEnvironment(rankVariables(environment))).toEqual(environment)
  })

  it("uses torchrun's names", () => {
    expect(Object.keys(rankVariables(environment)).filter((name) => !name.startsWith('LOCKSTEP_'))).toEqual([
      ...['RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'GROUP_RANK', 'MASTER_ADDR', 'MASTER_PORT'],
    ])
  })

  it('is undefined without a launcher, even where a cluster has set an address', () => {
    expect(readEnvironment({})).toBeUndefined()
    expect(readEnvironment({ MASTER_ADDR: 'node0', PATH: '/bin' })).toBeUndefined()
  })

  it('leaves the transport to the ranks when nobody names one', () => {
    const { LOCKSTEP_TRANSPORT: _, ...rest } = rankVariables(environment)
    expect(readEnvironment(rest)?.transport).toBe('auto')
  })

  it('listens on loopback only when nobody gives it an address', () => {
    const { LOCKSTEP_ADDR: _, ...rest } = rankVariables(environment)
    expect(readEnvironment(rest)?.address).toBe('127.0.0.1')
  })

  it('waits 60 s when nobody says how long', () => {
    const { LOCKSTEP_TIMEOUT: _, ...rest } = rankVariables(environment)
    expect(readEnvironment(rest)?.timeoutMs).toBe(60_000)
  })

  it.each([
    ['RANK', '4', /RANK is "4": expected a whole number from 0 to 3/],
    ['RANK', 'two', /RANK is "two"/],
    ['RANK', undefined, /RANK is not set/],
    ['WORLD_SIZE', '0', /WORLD_SIZE is "0": expected a whole number of at least 1/],
    ['WORLD_SIZE', '1e3', /WORLD_SIZE is "1e3"/],
    ['LOCAL_RANK', '-1', /LOCAL_RANK is "-1"/],
    ['MASTER_PORT', '70000', /MASTER_PORT is "70000": expected a whole number from 1 to 65535/],
    ['MASTER_ADDR', '', /MASTER_ADDR is "": expected a host name/],
    ['LOCKSTEP_ADDR', '', /LOCKSTEP_ADDR is "": expected an address of this host/],
    ['LOCKSTEP_THREADS', '0', /LOCKSTEP_THREADS is "0"/],
    ['LOCKSTEP_TIMEOUT', '0', /LOCKSTEP_TIMEOUT is "0": expected a number of seconds above 0/],
    ['LOCKSTEP_TIMEOUT', '1.2.3', /LOCKSTEP_TIMEOUT/],
    ['LOCKSTEP_TRANSPORT', 'mpi', /LOCKSTEP_TRANSPORT is "mpi": expected one of auto, shm, tcp, ws, unix/],
  ])('refuses %s=%s in one line that names it', (name, value, message) => {
    const env = { ...rankVariables(environment), [name]: value }
    expect(() => readEnvironment(env)).toThrow(message)
    expect(() => readEnvironment(env)).toThrow(/^[^\n]+$/)
  })

  it('never shows the token', () => {
    const env = { ...rankVariables(environment), LOCKSTEP_TOKEN: 'topsecret' }
    expect(() => readEnvironment(env)).toThrow(/LOCKSTEP_TOKEN is malformed/)
    expect(() => readEnvironment(env)).not.toThrow(/topsecret/)
  })
})
