/**
 * Checkpoints in an S3 bucket, under the same names as in a directory. There are no renames: a checkpoint is complete
 * once its last object, SHA256SUMS, is there. AWS's own package does the talking, credentials and retries; with
 * AWS_ENDPOINT_URL another service is asked, bucket in the path.
 */
import type { GetObjectCommandOutput, S3Client } from '@aws-sdk/client-s3'
import { LockstepError } from '../../errors.js'
import { folderName } from './folders.js'
import {
  DamagedError,
  type RandomSource,
  type Source,
  type Storage,
  StorageError,
  type Stored,
} from './storage.js'

type Sdk = typeof import('@aws-sdk/client-s3')

/** Written last: with it a checkpoint is complete. */
const MARKER = 'SHA256SUMS'
const PART_BYTES = 64 * 2 ** 20 // 10,000 parts at most, so files of up to 640 GB
const CONNECT_MS = 10_000
const SILENCE_MS = 60_000

/** @param location `s3://bucket/prefix`. @throws LockstepError when it names no bucket. */
export function s3Storage(location: string): Storage {
  const [, bucket, path] = /^s3:\/\/([^/]+)\/?(.*?)\/*$/.exec(location) ?? []
  if (bucket === undefined)
    throw new LockstepError(`checkpoint location ${location} names no bucket: expected s3://bucket/prefix`)
  return new S3Storage(bucket, path === '' ? '' : `${path}/`)
}

class S3Storage implements Storage {
  private connected: Promise<{ sdk: Sdk; client: S3Client }> | undefined

  constructor(
    private readonly bucket: string,
    /** Empty, or ends in a slash. */
    private readonly prefix: string,
  ) {}

  pathOf(step: number): string {
    return `s3://${this.bucket}/${this.prefix}${folderName(step)}`
  }

  async list(): Promise<Stored[]> {
    const steps = [...(await this.folders())].filter(([, keys]) => keys.some(isMarker)).map(([step]) => step)
    return steps.sort((a, b) => b - a).map((step) => ({ step, path: this.pathOf(step) }))
  }

  async begin(step: number): Promise<string> {
    for (const [other, keys] of await this.folders()) {
      if (other === step || !keys.some(isMarker)) await this.deleteMarkerFirst(keys)
    }
    return this.pathOf(step)
  }

  async sees(): Promise<boolean> {
    return true
  }

  async write(place: string, name: string, pieces: Iterable<Uint8Array>): Promise<void> {
    await this.upload(this.keyOf(place, name), pieces)
  }

  async discard(place: string, name: string): Promise<void> {
    await this.deleteMarkerFirst([this.keyOf(place, name)])
  }

  async complete(place: string): Promise<string> {
    return place
  }

  async abandon(place: string): Promise<void> {
    await this.remove(place)
  }

  read<T>(path: string, name: string, consume: (source: Source) => Promise<T>): Promise<T> {
    return this.get(path, name, consume)
  }

  async open<T>(path: string, name: string, use: (file: RandomSource) => Promise<T>): Promise<T> {
    const fillAt = async (target: Uint8Array, position: number) => {
      const Range = `bytes=${position}-${position + target.length - 1}`
      if (target.length > 0) await this.get(path, name, ({ fill }) => fill(target), Range)
    }
    return use({ path: `${path}/${name}`, fillAt })
  }

  async remove(path: string): Promise<void> {
    const step = Number(/\d+$/.exec(path)![0])
    await this.deleteMarkerFirst((await this.folders()).get(step) ?? [])
  }

  private async get<T>(
    path: string,
    name: string,
    consume: (source: Source) => Promise<T>,
    Range?: string,
  ): Promise<T> {
    const Key = this.keyOf(path, name)
    const object = await this.asking(({ sdk, client }) =>
      client.send(new sdk.GetObjectCommand({ Bucket: this.bucket, Key, Range })),
    ).catch((cause) => {
      if (cause instanceof StorageError && /^(NoSuchKey|InvalidRange)/.test(cause.message))
        throw new DamagedError(`${path}/${name} is ${Range ? 'missing or too short' : 'missing'}`, { cause })
      throw cause
    })
    return consume(this.sourceOf(object, `${path}/${name}`))
  }

  /** The keys of every checkpoint, complete or not, by step. */
  private async folders(): Promise<Map<number, string[]>> {
    const folders = new Map<number, string[]>()
    const Prefix = `${this.prefix}step-`
    let ContinuationToken: string | undefined
    do {
      const page = await this.asking(({ sdk, client }) =>
        client.send(new sdk.ListObjectsV2Command({ Bucket: this.bucket, Prefix, ContinuationToken })),
      )
      for (const { Key } of page.Contents ?? []) {
        const step = /^(\d{8,})\/[^/]+$/.exec(Key!.slice(Prefix.length))?.[1]
        if (step !== undefined) folders.set(Number(step), [...(folders.get(Number(step)) ?? []), Key!])
      }
      ContinuationToken = page.NextContinuationToken
    } while (ContinuationToken !== undefined)
    return folders
  }

  private async deleteMarkerFirst(keys: readonly string[]): Promise<void> {
    for (const Key of [...keys.filter(isMarker), ...keys.filter((key) => !isMarker(key))]) {
      await this.asking(({ sdk, client }) =>
        client.send(new sdk.DeleteObjectCommand({ Bucket: this.bucket, Key })),
      )
    }
  }

  /** One request for what fits into a part, else a multipart upload, which appears as one object at its end. */
  private async upload(Key: string, pieces: Iterable<Uint8Array>): Promise<void> {
    const target = { Bucket: this.bucket, Key }
    const parts = partsOf(pieces)
    let Body: Buffer = parts.next().value ?? Buffer.alloc(0)
    let following = parts.next()
    await this.asking(async ({ sdk, client }) => {
      if (following.done) return client.send(new sdk.PutObjectCommand({ ...target, Body }))
      const { UploadId } = await client.send(new sdk.CreateMultipartUploadCommand(target))
      const upload = { ...target, UploadId }
      try {
        const Parts: { PartNumber: number; ETag: string | undefined }[] = []
        for (let PartNumber = 1; ; PartNumber++) {
          const { ETag } = await client.send(new sdk.UploadPartCommand({ ...upload, PartNumber, Body }))
          Parts.push({ PartNumber, ETag })
          if (following.done) break
          Body = following.value
          following = parts.next()
        }
        return await client.send(
          new sdk.CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } }),
        )
      } catch (cause) {
        await client.send(new sdk.AbortMultipartUploadCommand(upload)).catch(() => {})
        throw cause
      }
    })
  }

  private sourceOf({ Body, ContentLength }: GetObjectCommandOutput, path: string): Source {
    const chunks = (Body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]()
    let rest: Uint8Array = new Uint8Array()
    const fill = async (target: Uint8Array) => {
      for (let done = 0; done < target.length; ) {
        if (rest.length === 0) {
          const { value, done: ended } = await this.asking(() => chunks.next())
          if (ended) throw new DamagedError(`${path}: it ends early`)
          rest = value
        }
        const taken = rest.subarray(0, target.length - done)
        target.set(taken, done)
        done += taken.length
        rest = rest.subarray(taken.length)
      }
    }
    return { path, size: ContentLength ?? 0, fill }
  }

  private keyOf(path: string, name: string): string {
    return `${path.slice(`s3://${this.bucket}/`.length)}/${name}`
  }

  /** Every request: what goes wrong in it becomes a StorageError with the next step. */
  private async asking<T>(request: (s3: { sdk: Sdk; client: S3Client }) => Promise<T>): Promise<T> {
    this.connected ??= connect()
    const s3 = await this.connected
    try {
      return await request(s3)
    } catch (cause) {
      if (cause instanceof StorageError) throw cause
      throw explain(cause as Error & { code?: string }, this.bucket)
    }
  }
}

async function connect(): Promise<{ sdk: Sdk; client: S3Client }> {
  const sdk = await import('@aws-sdk/client-s3').catch((cause) => {
    if (cause.code !== 'ERR_MODULE_NOT_FOUND') throw cause
    const install = 'install it: npm install @aws-sdk/client-s3'
    throw new StorageError('s3:// needs the package @aws-sdk/client-s3, which is not there', install, {
      cause,
    })
  })
  const { AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3, AWS_REGION } = process.env
  const ownService = Boolean(AWS_ENDPOINT_URL_S3 || AWS_ENDPOINT_URL)
  const client = new sdk.S3Client({
    forcePathStyle: ownService,
    ...(ownService && !AWS_REGION ? { region: 'us-east-1' } : {}), // any will do there, but one has to be signed
    // SHA256SUMS covers the content; services other than AWS often refuse the newer checksum headers.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: SILENCE_MS },
  })
  return { sdk, client }
}

/** Advice by the name of AWS's error, or the code of the system's. */
const advice: Readonly<Record<string, string>> = {
  CredentialsProviderError: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE',
  InvalidAccessKeyId: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to a key that this service knows',
  SignatureDoesNotMatch: 'set AWS_SECRET_ACCESS_KEY to the secret of AWS_ACCESS_KEY_ID',
  ExpiredToken: 'renew AWS_SESSION_TOKEN',
  NoSuchBucket: 'create the bucket, or name another',
  AccessDenied: 'allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject to these credentials',
  ECONNREFUSED: 'see that AWS_ENDPOINT_URL names a service that runs',
  ENOTFOUND: 'see that AWS_ENDPOINT_URL and AWS_REGION are right',
}

function explain(cause: Error & { code?: string }, bucket: string): StorageError {
  const name = cause.code ?? cause.name
  const region = cause.message.startsWith('Region is missing') ? 'set AWS_REGION' : undefined
  const [line] = (cause.message || 'no answer').split('\n')
  const what = line!.startsWith(name) || line!.includes(` ${name} `) ? line! : `${name}: ${line}`
  return new StorageError(
    what,
    region ?? advice[name] ?? `see that bucket ${bucket} can be reached and may be used`,
    { cause },
  )
}

/** Buffers of PART_BYTES, the last one shorter: S3 wants all parts but the last to be large. */
function* partsOf(pieces: Iterable<Uint8Array>): Generator<Buffer, undefined> {
  let [held, bytes]: [Uint8Array[], number] = [[], 0]
  for (const piece of pieces) {
    held.push(piece)
    bytes += piece.length
    if (bytes < PART_BYTES) continue
    yield Buffer.concat(held)
    held = []
    bytes = 0
  }
  if (bytes > 0) yield Buffer.concat(held)
}

function isMarker(key: string): boolean {
  return key.endsWith(`/${MARKER}`)
}
