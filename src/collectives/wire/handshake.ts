/**
 * Proves that both ends of a new connection belong to this job, before anything else is read from it.
 * It refuses to encrypt what follows (that is TLS's part) and to say anything about the token to a stranger.
 *
 *   both ends    greeting = magic (8 bytes) | version (2) | random nonce (32)
 *   initiator    proof    = HMAC-SHA256(token, magic | version | 'initiator' | nonceI | nonceA)
 *   acceptor     proof    = the same with 'acceptor', sent only after the initiator's was right
 *
 * The token itself never travels. The roles keep a proof from being reflected to its sender, the nonces from
 * being replayed. Every message has a fixed size, so there is no length that a stranger could choose.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { LockstepError } from '../../errors.js'

const MAGIC = Buffer.from('LOCKSTEP', 'latin1')
export const PROTOCOL_VERSION = 2
const HEADER = Buffer.concat([MAGIC, Buffer.from([PROTOCOL_VERSION >> 8, PROTOCOL_VERSION & 255])])
/** How a connection by TLS begins: record type and major version (RFC 8446 §5.1). */
const TLS_HANDSHAKE = 0x1603
const NONCE_BYTES = 32
const PROOF_BYTES = 32

/** A TCP socket, or any other stream between two processes. */
export type Connection = Duplex & {
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
}

type Role = 'initiator' | 'acceptor'

export interface HandshakeOptions {
  /** How long the other end may take for the whole handshake, in milliseconds. */
  readonly timeoutMs?: number
}

/**
 * The connecting end's part. Resolves when both ends have proved `token`; bytes that follow stay in the socket.
 * @throws LockstepError naming the remote address, what came and what was expected; the socket is destroyed.
 */
export function initiateHandshake(
  socket: Connection,
  token: string,
  options: HandshakeOptions = {},
): Promise<void> {
  return guarded(socket, options, async (link) => {
    const mine = link.greet()
    const theirs = await link.greeting()
    socket.write(proof(token, 'initiator', mine, theirs))
    await link.proof(proof(token, 'acceptor', mine, theirs))
  })
}

/** The listening end's part: as `initiateHandshake`, and proves nothing before the other end has. */
export function acceptHandshake(
  socket: Connection,
  token: string,
  options: HandshakeOptions = {},
): Promise<void> {
  return guarded(socket, options, async (link) => {
    const mine = link.greet()
    const theirs = await link.greeting()
    await link.proof(proof(token, 'initiator', theirs, mine))
    socket.write(proof(token, 'acceptor', theirs, mine))
  })
}

function proof(token: string, role: Role, initiatorNonce: Buffer, acceptorNonce: Buffer): Buffer {
  return createHmac('sha256', token)
    .update(HEADER)
    .update(role)
    .update(initiatorNonce)
    .update(acceptorNonce)
    .digest()
}

/** One end's view of the connection while it is still a stranger's. */
class Stranger {
  readonly #socket: Connection
  readonly #failed: Promise<never>

  constructor(socket: Connection, failed: Promise<never>) {
    this.#socket = socket
    this.#failed = failed
  }

  greet(): Buffer {
    const nonce = randomBytes(NONCE_BYTES)
    this.#socket.write(Buffer.concat([HEADER, nonce]))
    return nonce
  }

  async greeting(): Promise<Buffer> {
    // The header is judged by itself: an HTTP client or an older Lockstep is told so at once.
    const header = await this.#read(HEADER.length)
    if (header.readUInt16BE() === TLS_HANDSHAKE) {
      throw new LockstepError('speaks TLS, and this end does not: give all nodes the same --tls options')
    }
    if (!header.subarray(0, MAGIC.length).equals(MAGIC)) {
      throw new LockstepError(
        `sent ${JSON.stringify(header.toString('latin1'))}…: expected a rank of a Lockstep job`,
      )
    }
    const version = header.readUInt16BE(MAGIC.length)
    if (version !== PROTOCOL_VERSION) {
      throw new LockstepError(
        `speaks protocol version ${version}: expected ${PROTOCOL_VERSION}, install the same lockstep everywhere`,
      )
    }
    return this.#read(NONCE_BYTES)
  }

  async proof(expected: Buffer): Promise<void> {
    if (!timingSafeEqual(await this.#read(PROOF_BYTES), expected)) {
      throw new LockstepError('did not prove the job token: expected the LOCKSTEP_TOKEN of this job')
    }
  }

  /** Exactly `bytes`; whatever came with them stays in the socket's own buffer, so nothing can be lost. */
  #read(bytes: number): Promise<Buffer> {
    const socket = this.#socket
    const arrived = new Promise<Buffer>((resolve) => {
      const take = () => {
        // Null until there is enough; short at the end of the stream, which is no message and `end` follows.
        const chunk: Buffer | null = socket.read(bytes)
        if (chunk?.length !== bytes) return
        socket.off('readable', take)
        resolve(chunk)
      }
      socket.on('readable', take)
      take()
    })
    return Promise.race([arrived, this.#failed])
  }
}

async function guarded(
  socket: Connection,
  { timeoutMs = 5000 }: HandshakeOptions,
  steps: (link: Stranger) => Promise<void>,
): Promise<void> {
  const address = `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? '?'}` // gone once it is destroyed
  const { promise: failed, reject } = rejection()
  const onClose = () =>
    reject(
      new LockstepError(
        'closed it during the handshake: expected a rank of this job, with its LOCKSTEP_TOKEN and the same --tls',
      ),
    )
  const onError = (cause: Error) =>
    reject(new LockstepError(`failed in the handshake: ${cause.message}`, { cause }))
  const timer = setTimeout(() => {
    reject(
      new LockstepError(
        `did not prove the job token within ${timeoutMs / 1000} s: expected a rank of this job`,
      ),
    )
  }, timeoutMs)
  socket.on('close', onClose).on('end', onClose).on('error', onError)
  try {
    await steps(new Stranger(socket, failed))
  } catch (error) {
    socket.removeAllListeners('readable')
    socket.on('error', () => {}) // it is given up: what its other end does to it no longer matters
    socket.destroy()
    const reason = error instanceof Error ? error.message : String(error)
    throw new LockstepError(`the connection with ${address} was refused: the other end ${reason}`, {
      cause: error,
    })
  } finally {
    clearTimeout(timer)
    socket.off('close', onClose).off('end', onClose).off('error', onError)
  }
}

/** A promise that is only ever rejected, and may be so with nobody waiting. */
function rejection(): { promise: Promise<never>; reject: (error: Error) => void } {
  let reject!: (error: Error) => void
  const promise = new Promise<never>((_, no) => {
    reject = no
  })
  promise.catch(() => {})
  return { promise, reject }
}
