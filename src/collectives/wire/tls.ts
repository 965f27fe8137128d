/**
 * TLS 1.3 for connections between hosts, on which both ends prove themselves: with certificates of an authority that the
 * user brings, or with a key made of the job's token (RFC 8446 §2.2), which needs neither authority nor names nor dates.
 * It refuses to go on without encryption when it was asked for.
 */
import { hkdfSync } from 'node:crypto'
import { createServer, type NetConnectOpts, connect as netConnect, type Server, type Socket } from 'node:net'
import {
  type ConnectionOptions,
  createServer as createTlsServer,
  type PeerCertificate,
  TLSSocket,
  type TlsOptions,
  connect as tlsConnect,
} from 'node:tls'
import { LockstepError } from '../../errors.js'

/** As PEM: the authority, this host's certificate (and those between it and the authority), and its private key. */
export interface Certificates {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** `token`: who knows the job's token is let in. */
export type Tls = 'token' | Certificates

/** What a connection of the job is protected with. */
export interface Protection {
  /** The job's secret. */
  readonly token: string
  /** Undefined: what follows the handshake is not encrypted. */
  readonly tls?: Tls | undefined
}

/** How long a connection may take to come to an agreement. */
const AGREE_MS = 5000
/** AES-128 is a quarter faster than AES-256. Both have SHA-256, which a key from outside needs. */
const COMMON = {
  minVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256',
} as const

/** Listens nowhere yet. `come` gets every connection that is not yet proved to be of the job, `refused` why others are not. */
export function createListener(
  { token, tls }: Protection,
  come: (socket: Socket) => void,
  refused: (error: Error) => void = () => {},
): Server {
  if (tls === undefined) return createServer({ noDelay: true }, come)
  const options = { ...listenerOptions(tls, token), noDelay: true, handshakeTimeout: AGREE_MS }
  const server = createTlsServer(options, (socket) => {
    if (isTrusted(socket, tls)) return come(socket)
    refused(refusal(socket, Object.assign(new Error(), { code: String(socket.authorizationError) })))
    socket.destroy()
  })
  return server.on('tlsClientError', (error, socket) => refused(refusal(socket, error)))
}

/** For a server of TLS, HTTPS included. Whoever comes with a wrong certificate comes: see `isTrusted`. */
export function listenerOptions(tls: Tls, token: string): TlsOptions {
  if (tls === 'token') return { ...COMMON, pskCallback: () => keyOf(token) }
  // Node would hang up without saying why.
  return { ...COMMON, ...tls, requestCert: true, rejectUnauthorized: false }
}

/** Whether the other end, which dialled, has proved itself as far as TLS does that. */
export function isTrusted(socket: TLSSocket, tls: Tls): boolean {
  return tls === 'token' || socket.authorized
}

/** For a client of TLS, HTTPS included. */
export function diallerOptions(tls: Tls, token: string): ConnectionOptions {
  if (tls !== 'token') return { ...COMMON, ...tls }
  const psk = { psk: keyOf(token), identity: 'lockstep' }
  return { ...COMMON, pskCallback: () => psk, checkServerIdentity: () => undefined }
}

/** A connection on its way: see `connected`. */
export function dial(where: NetConnectOpts, { token, tls }: Protection): Socket {
  if (tls === undefined) return netConnect(where)
  // What tls.connect makes of `where` is net.connect's: onread and noDelay too.
  return tlsConnect({ ...where, ...diallerOptions(tls, token) } as ConnectionOptions)
}

/**
 * Waits until it is there, and encrypted if it is to be.
 * @throws the system's error where nobody is reached, a LockstepError where TLS fails. The socket is destroyed.
 */
export function connected(socket: Socket, timeoutMs?: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) => {
      clearTimeout(timer)
      socket.on('error', () => {})
      socket.destroy()
      reject(explained(cause))
    }
    const late = () => fail(new Error(`no connection within ${timeoutMs! / 1000} s`))
    const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs)
    socket.once('error', fail).once(socket instanceof TLSSocket ? 'secureConnect' : 'connect', () => {
      clearTimeout(timer)
      socket.off('error', fail)
      resolve()
    })
  })
}

/** The key of all connections with that token; the token cannot be told from it. */
function keyOf(token: string): Buffer {
  return Buffer.from(hkdfSync('sha256', token, '', 'lockstep tls 1.3', 32))
}

function refusal(socket: Socket, cause: Error): Error {
  const from = socket.remoteAddress ?? 'another host' // gone with the connection
  return new LockstepError(`the connection with ${from} was refused: ${explained(cause).message}`, { cause })
}

type TlsError = Error & { code?: string; host?: string; cert?: PeerCertificate }

const SAME = 'give all nodes the same --tls, or --tls-ca, --tls-cert and --tls-key'
/** What OpenSSL's and Node's codes mean here; "alert" is what the other end has sent. */
const MEANINGS: readonly (readonly [RegExp, string])[] = [
  [/WRONG_VERSION_NUMBER|PACKET_LENGTH|HTTP_REQUEST/, `the other end does not speak TLS: ${SAME}`],
  [/BINDER_DOES_NOT_VERIFY|ALERT_(ILLEGAL_PARAMETER|DECRYPT_ERROR)/, 'the other end has another job token'],
  [
    /NO_SUITABLE_SIGNATURE|ALERT_HANDSHAKE_FAILURE|RETURN_A_CERTIFICATE|CERTIFICATE_REQUIRED/,
    `one end has certificates and the other has not: ${SAME}`,
  ],
  [/SOCKET_HANG_UP/, 'the other end has hung up while TLS was agreed on, and says why: see its log'],
  [/^CERT_HAS_EXPIRED/, "the other end's certificate has expired: renew it there, or set the clocks right"],
  [/^CERT_NOT_YET_VALID/, "the other end's certificate is not valid yet: see that the clocks agree"],
  [
    /SELF_SIGNED|UNABLE_TO_(GET_ISSUER|VERIFY)|CERT_SIGNATURE|ALERT_UNKNOWN_CA/,
    "the other end's certificate is not of this end's authority: give all nodes certificates of the same --tls-ca, or all --tls auto",
  ],
]

/** A failure of TLS in words that say what to do; any other error as it is. */
export function explained(error: TlsError): Error {
  const { code = '', host, cert } = error
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    const what = `its certificate is for ${cert?.subjectaltname || 'nobody'}, not for ${host}`
    return new LockstepError(`${what}: make one that is, or have it reached by another name (--local-addr)`, {
      cause: error,
    })
  }
  // Where the connection is written to first, the code is EPROTO and OpenSSL's words are in the message.
  const words = `${code} ${error.message}`.toUpperCase().replaceAll(' ', '_')
  const meaning = MEANINGS.find(([pattern]) => pattern.test(words))?.[1]
  if (meaning !== undefined) return new LockstepError(meaning, { cause: error })
  return code.startsWith('ERR_SSL') || code === 'EPROTO'
    ? new LockstepError(`TLS failed (${code}): ${SAME}`, { cause: error })
    : error
}
