/**
 * Ranks that a cluster has started itself, one per task (`srun --ntasks 4 node train.js`), without ddp-launch: rank 0 holds
 * the store, and all find out there who shares a host with whom. It refuses to watch other ranks: a launcher's part.
 */
import { spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { availableParallelism, hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { LockstepError } from '../../errors.js'
import type { Placement, Variables } from './clusters/placement.js'
import { findPlacement } from './clusters/table.js'
import { StoreClient } from './store-client.js'
import { LISTENING, type StoreOptions } from './store-server.js'
import { loadTls, readTls } from './tls.js'
import { DEFAULT_TIMEOUT_SECONDS, type RankEnvironment, readEnvironment } from './variables.js'

const LEAST_CHARACTERS = 16
const TRY_AGAIN_MS = 250
/** Why nobody answers yet: rank 0 is slower, or its name is not known yet. */
const NOT_YET = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENOTFOUND', 'EAI_AGAIN']

/**
 * This process' place among the tasks of a cluster; undefined when a launcher has said it already, or there is no other.
 * @throws LockstepError when the cluster does not say enough, or ranks do not come to the store in time.
 */
export async function joinDirectly(env: Variables = process.env): Promise<RankEnvironment | undefined> {
  if (env.RANK !== undefined || env.WORLD_SIZE !== undefined) return undefined
  const placement = findPlacement(env)
  // Kubernetes does not say how many pods there are: each is a world of its own.
  if (placement?.nodes === undefined || placement.nodes.max === 1) return undefined
  const seat = seatOf(placement, env)
  const { host, port, rank, size, token } = seat
  const tls = loadTls(readTls(env))
  if (rank === 0) await openStore({ host, port, token, tls })
  const seconds = Number(env.LOCKSTEP_TIMEOUT ?? DEFAULT_TIMEOUT_SECONDS)
  const store = await reach({ host, port, token, tls, timeoutMs: seconds * 1000 })
  try {
    await store.set(`task/${rank}`, hostIdentity())
    const others = Array.from({ length: size }, (_, r) => store.get(`task/${r}`, undefined, `rank ${r}`))
    const { localRank, localWorldSize, groupRank } = whereabouts(rank, await Promise.all(others))
    return readEnvironment({
      LOCKSTEP_THREADS: String(Math.max(1, Math.floor(availableParallelism() / localWorldSize))),
      ...env,
      ...{ RANK: String(rank), WORLD_SIZE: String(size), GROUP_RANK: String(groupRank) },
      ...{ LOCAL_RANK: String(localRank), LOCAL_WORLD_SIZE: String(localWorldSize) },
      ...{ MASTER_ADDR: host, MASTER_PORT: String(port), LOCKSTEP_TOKEN: token },
      LOCKSTEP_ADDR: env.LOCKSTEP_LOCAL_ADDR ?? (await addressTowards(host, port)),
    })
  } finally {
    store.close()
  }
}

/** Who shares a host with whom, from each rank's host: hosts are numbered in the order of their first ranks. Pure. */
export function whereabouts(rank: number, hosts: readonly string[]) {
  const here = hosts.flatMap((host, r) => (host === hosts[rank] ? [r] : []))
  return {
    localRank: here.indexOf(rank),
    localWorldSize: here.length,
    groupRank: [...new Set(hosts)].indexOf(hosts[rank]!),
  }
}

function seatOf({ cluster, nodes, nodeRank, endpoint }: Placement, env: Variables) {
  const host = env.LOCKSTEP_MASTER_ADDR || endpoint?.host
  if (nodeRank === undefined || nodes?.min !== nodes?.max) {
    throw new LockstepError(
      `${cluster} does not say which rank this is: expected ddp-launch, started once per node, to start it`,
    )
  }
  if (host === undefined) {
    throw new LockstepError(
      `${cluster} does not say where rank 0 is: set LOCKSTEP_MASTER_ADDR to its host on all ranks, or start ddp-launch once per node`,
    )
  }
  const port = Number(env.LOCKSTEP_MASTER_PORT || endpoint?.port)
  if (!(Number.isInteger(port) && port > 0 && port <= 65535)) {
    throw new LockstepError(
      `environment variable LOCKSTEP_MASTER_PORT is "${env.LOCKSTEP_MASTER_PORT}": expected a port that is free where rank 0 is`,
    )
  }
  const size = nodes?.max ?? 1
  return { host, port, rank: nodeRank, size, token: readSecret(cluster, size, env) }
}

/** What ranks prove to each other, made of the job's secret. Hexadecimal. */
function readSecret(cluster: string, size: number, env: Variables): string {
  const file = env.LOCKSTEP_TOKEN_FILE
  const secret = (file ? readSecretFile(file) : env.LOCKSTEP_TOKEN) ?? ''
  if (secret.length < LEAST_CHARACTERS) {
    throw new LockstepError(
      `${size} ranks that ${cluster} started need a secret of at least ${LEAST_CHARACTERS} characters by which they know each other, got ${secret.length}: set LOCKSTEP_TOKEN_FILE or LOCKSTEP_TOKEN on all (make one with \`openssl rand -hex 32 > job.token\`)`,
    )
  }
  return createHmac('sha256', secret).update('ranks without a launcher').digest('hex')
}

function readSecretFile(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw new LockstepError(`LOCKSTEP_TOKEN_FILE ${file} cannot be read: ${(cause as Error).message}`, {
      cause,
    })
  }
}

/**
 * For as long as rank 0 lives, without keeping it alive. In a process of its own: a rank that waits in shared memory does
 * not turn its event loop.
 */
async function openStore(options: StoreOptions & { readonly port: number }): Promise<void> {
  const { host, port } = options
  const program = `./store-process.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`
  const flags = process.execArgv.filter((flag) => !flag.startsWith('--inspect'))
  const child = spawn(process.execPath, [...flags, fileURLToPath(new URL(program, import.meta.url))], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  child.stdin.write(`${JSON.stringify(options)}\n`)
  const answer = String((await Promise.race([once(child.stdout, 'data'), once(child, 'close')]))[0]).trim()
  if (answer !== LISTENING) {
    throw new LockstepError(
      `rank 0 cannot listen at ${host}:${port}: ${answer}; set LOCKSTEP_MASTER_ADDR and LOCKSTEP_MASTER_PORT, the same on all ranks, to an address of its host and a free port`,
    )
  }
  for (const handle of [child, child.stdin as Socket, child.stdout as Socket]) handle.unref()
}

async function reach(address: Parameters<typeof StoreClient.connect>[0]): Promise<StoreClient> {
  const deadline = Date.now() + address.timeoutMs
  for (;;) {
    try {
      return await StoreClient.connect(address)
    } catch (error) {
      const { code } = Object((error as Error).cause) as { code?: string }
      if (code === undefined || !NOT_YET.includes(code)) throw error
      if (Date.now() > deadline) {
        throw new LockstepError(
          `rank 0 does not answer at ${address.host}:${address.port} since ${address.timeoutMs / 1000} s (${code}): see that it runs, and that firewalls let the port through`,
          { cause: error },
        )
      }
    }
    await delay(TRY_AGAIN_MS)
  }
}

/** Machines may be called the same, and containers may share a machine. */
function hostIdentity(): string {
  return `${hostname()} ${process.platform === 'linux' ? readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim() : ''}`
}

/** This host's address on the way to `host`; nothing is sent. */
async function addressTowards(host: string, port: number): Promise<string> {
  const { address, family } = await lookup(host)
  const socket = createSocket(family === 6 ? 'udp6' : 'udp4')
  try {
    socket.connect(port, address)
    await once(socket, 'connect')
    return socket.address().address
  } finally {
    socket.close()
  }
}
