/**
 * How connections between the hosts of a job are encrypted: what was said about it, and the files behind that. It refuses
 * certificates of which it can be told here that no other host will accept them.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Tls } from '../../collectives/wire/tls.js'
import { LockstepError } from '../../errors.js'

export type { Protection, Tls } from '../../collectives/wire/tls.js'

/** Where this host's certificates are. */
export interface CertificateFiles {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** `token`: with a key made of the job's secret. */
export type TlsSetting = 'token' | CertificateFiles

export const TLS_MODES = ['auto', 'off'] as const

/** As options and as LOCKSTEP_* variables of these names. */
export interface TlsOptions {
  readonly tls?: string | undefined
  readonly 'tls-ca'?: string | undefined
  readonly 'tls-cert'?: string | undefined
  readonly 'tls-key'?: string | undefined
}

/** Undefined: not encrypted. @throws LockstepError for options that contradict each other. */
export function tlsSetting(options: TlsOptions): TlsSetting | undefined {
  const { tls, 'tls-ca': ca, 'tls-cert': cert, 'tls-key': key } = options
  if (tls === 'off') return undefined
  const missing = Object.entries({ ca, cert, key }).flatMap(([name, file]) => (file ? [] : [`--tls-${name}`]))
  if (tls === 'auto' && missing.length < 3)
    throw new LockstepError('--tls auto cannot be used with --tls-ca, --tls-cert or --tls-key: give either')
  if (tls === 'auto') return 'token'
  if (ca && cert && key) return { ca: resolve(ca), cert: resolve(cert), key: resolve(key) }
  if (missing.length === 3) return undefined
  throw new LockstepError(
    `TLS with certificates needs ${missing.join(' and ')} too: the authority of all nodes, and this node's certificate and key (or --tls auto alone)`,
  )
}

/** What the launcher sets for a rank, whatever was set for the launcher. */
export function tlsVariables(setting: TlsSetting | undefined): Record<string, string> {
  if (setting === undefined) return { LOCKSTEP_TLS: 'off' }
  if (setting === 'token') return { LOCKSTEP_TLS: 'auto' }
  const { ca, cert, key } = setting
  return { LOCKSTEP_TLS: '', LOCKSTEP_TLS_CA: ca, LOCKSTEP_TLS_CERT: cert, LOCKSTEP_TLS_KEY: key }
}

/** The inverse. @throws LockstepError for variables that contradict each other. */
export function readTls(env: Readonly<Record<string, string | undefined>>): TlsSetting | undefined {
  const { LOCKSTEP_TLS: tls, LOCKSTEP_TLS_CA: ca, LOCKSTEP_TLS_CERT: cert, LOCKSTEP_TLS_KEY: key } = env
  if (tls && !TLS_MODES.some((mode) => mode === tls)) {
    throw new LockstepError(
      `environment variable LOCKSTEP_TLS is "${tls}": expected one of ${TLS_MODES.join(', ')}`,
    )
  }
  return tlsSetting({ tls, 'tls-ca': ca, 'tls-cert': cert, 'tls-key': key })
}

/** @throws LockstepError naming the file that cannot be read, is none, has expired, or does not go with the others. */
export function loadTls(setting: TlsSetting | undefined): Tls | undefined {
  if (setting === undefined || setting === 'token') return setting
  const tls = {
    ca: read('ca', setting.ca),
    cert: read('cert', setting.cert),
    key: read('key', setting.key),
  }
  const authorities = parsed('ca', setting.ca, () => certificatesIn(tls.ca))
  const chain = parsed('cert', setting.cert, () => certificatesIn(tls.cert))
  const key = parsed('key', setting.key, () => createPrivateKey(tls.key))
  const own = chain[0]!
  if (new Date(own.validTo).getTime() < Date.now())
    throw new LockstepError(`--tls-cert ${setting.cert} has expired on ${own.validTo}: renew it`)
  if (!own.checkPrivateKey(key))
    throw new LockstepError(`--tls-key ${setting.key} is not the key of --tls-cert ${setting.cert}`)
  if (!chain.some((one) => authorities.some((ca) => one.checkIssued(ca) && one.verify(ca.publicKey)))) {
    throw new LockstepError(
      `--tls-cert ${setting.cert} is not signed by the authority in --tls-ca ${setting.ca}: no other node would accept it`,
    )
  }
  return tls
}

function certificatesIn(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g)
  if (blocks === null) throw new Error('it holds no certificate')
  return blocks.map((block) => new X509Certificate(block))
}

function parsed<T>(flag: string, file: string, parse: () => T): T {
  try {
    return parse()
  } catch (cause) {
    throw new LockstepError(
      `--tls-${flag} ${file} is not what it should be: expected PEM (${(cause as Error).message})`,
      { cause },
    )
  }
}

function read(flag: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    throw new LockstepError(`--tls-${flag} ${file} cannot be read: ${(cause as Error).message}`, { cause })
  }
}
