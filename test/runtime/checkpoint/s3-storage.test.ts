/** Checkpoints in S3: a real service in a process of its own (s3rver), AWS's own package, and services that refuse. */
import { execFile } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { GetObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  onTestFinished,
  test,
  vi,
} from 'vitest'
import { LockstepError } from '../../../src/errors.js'
import { BackgroundWriter } from '../../../src/runtime/checkpoint/background-writer.js'
import {
  type Checkpoint,
  readCheckpoint,
  writeCheckpoint,
} from '../../../src/runtime/checkpoint/checkpoints.js'
import { adam } from '../../../src/runtime/optimizers/index.js'
import { asRanks, samples, tinyModel } from '../ranks.js'
import { type S3Server, s3Environment, startS3 } from './s3-server.js'

const BUCKET = 'training'
const withoutAws = fileURLToPath(new URL('without-aws.ts', import.meta.url))
let server: S3Server
let client: S3Client
let tests = 0
/** A prefix of its own for each test. */
let prefix: string
let location: string

beforeAll(async () => {
  server = await startS3(BUCKET)
  for (const [name, value] of Object.entries(s3Environment(server.url))) vi.stubEnv(name, value)
  client = new S3Client({ forcePathStyle: true, region: 'us-east-1' })
})
afterAll(async () => {
  client.destroy()
  await server.stop()
  vi.unstubAllEnvs()
})
beforeEach(() => {
  prefix = `run ${tests++}/é`
  location = `s3://${BUCKET}/${prefix}`
  for (const [name, value] of Object.entries(s3Environment(server.url))) vi.stubEnv(name, value)
})
afterEach(() => vi.unstubAllEnvs())

function checkpoint(step: number, floats = 6): Checkpoint {
  const data = Float32Array.from({ length: floats }, (_, i) => i / 7 + step)
  return {
    step,
    model: [{ name: 'dense/kernel', shape: [floats], data }],
    optimizer: [{ name: 'm', shape: [floats], data: data.map((x) => -x) }],
    state: { epoch: 2 },
  }
}

async function keys(): Promise<string[]> {
  const { Contents = [] } = await client.send(
    new ListObjectsV2Command({ Bucket: BUCKET, Prefix: `${prefix}/` }),
  )
  return Contents.map(({ Key }) => Key!.slice(prefix.length + 1)).sort()
}

const put = (name: string, Body: string | Buffer) =>
  client.send(new PutObjectCommand({ Bucket: BUCKET, Key: `${prefix}/${name}`, Body }))
const get = async (name: string) => {
  const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: `${prefix}/${name}` }))
  return Buffer.from(await Body!.transformToByteArray())
}

describe('checkpoints in S3', () => {
  test('the layout is that of a directory, and the latest comes back as it was written', async () => {
    expect(await readCheckpoint(location)).toBeUndefined()
    for (const step of [9, 150, 20]) await writeCheckpoint(location, checkpoint(step))
    expect(await readCheckpoint(`${location}/`)).toEqual({
      path: `${location}/step-00000150`,
      damaged: [],
      ...checkpoint(150),
    })
    expect((await keys()).slice(0, 4)).toEqual(
      ['SHA256SUMS', 'model.safetensors', 'optimizer.safetensors', 'state.json'].map(
        (f) => `step-00000009/${f}`,
      ),
    )
  })

  test('from the thread that writes in the background, and at the root of a bucket', async () => {
    const path = await new BackgroundWriter().write({
      location: `s3://${BUCKET}`,
      checkpoint: checkpoint(7),
      keepLast: undefined,
    })
    expect(path).toBe(`s3://${BUCKET}/step-00000007`)
    expect((await readCheckpoint(`s3://${BUCKET}`))!.model).toEqual(checkpoint(7).model)
  })

  test('shards of two ranks, read by one; a damaged one is passed over', async () => {
    const losses = await asRanks(2, async (world) => {
      const ddp = await world.ddp(tinyModel(), {
        loss: 'softmaxCrossEntropy',
        optimizer: adam(0.01),
        zero: 3,
      })
      for (const from of [0, 8]) {
        await ddp.step(samples(from, from + 4).x, samples(from, from + 4).y)
        await ddp.save(location, { from })
      }
      return (await ddp.evaluate([samples(0, 8)])).loss
    })
    expect((await keys()).slice(5)).toEqual(
      [
        'SHA256SUMS',
        'index.json',
        'shard-00000-of-00002.safetensors',
        'shard-00001-of-00002.safetensors',
        'state.json',
      ].map((name) => `step-00000002/${name}`),
    )
    await asRanks(1, async (world) => {
      const ddp = await world.ddp(tinyModel(), { loss: 'softmaxCrossEntropy', optimizer: adam(0.01) })
      expect(await ddp.load(location)).toEqual({ from: 8 })
      expect((await ddp.evaluate([samples(0, 8)])).loss).toBeCloseTo(losses[0]!, 6)
      await put('step-00000002/shard-00001-of-00002.safetensors', 'short')
      const error = vi.spyOn(console, 'error').mockImplementation(() => {})
      expect(await ddp.load(location)).toEqual({ from: 0 })
      expect(error.mock.calls[0]![0]).toContain('step-00000002/shard-00001-of-00002.safetensors has SHA-256')
      error.mockRestore()
    })
  })

  test('files beyond one part of an upload', async () => {
    const big = { ...checkpoint(1, 16_800_011), optimizer: [] } // 67.2 MB: a part is 64 MiB
    await writeCheckpoint(location, big)
    const { model } = (await readCheckpoint(location))!
    expect(Buffer.from(model[0]!.data.buffer).equals(Buffer.from(big.model[0]!.data.buffer))).toBe(true)
  })

  test('without SHA256SUMS it is not there, and the next save removes it', async () => {
    await writeCheckpoint(location, checkpoint(1))
    await put('step-00000002/model.safetensors', 'half')
    await put('notes/step-00000002.txt', 'mine')
    expect((await readCheckpoint(location))!.step).toBe(1)
    await writeCheckpoint(location, checkpoint(3))
    expect(await keys()).not.toContain('step-00000002/model.safetensors')
    expect(await keys()).toContain('notes/step-00000002.txt')
  })

  test('an error while writing leaves nothing, and what was there stays', async () => {
    await writeCheckpoint(location, checkpoint(2))
    const [tensor] = checkpoint(3).model
    const twice = { ...checkpoint(3), optimizer: [tensor!, tensor!] }
    await expect(writeCheckpoint(location, twice)).rejects.toThrow('two tensors')
    expect((await keys()).every((key) => key.startsWith('step-00000002/'))).toBe(true)
  })

  test('a damaged newest is passed over; one of the same step is replaced', async () => {
    for (const step of [1, 2]) await writeCheckpoint(location, checkpoint(step))
    const name = 'step-00000002/model.safetensors'
    const bytes = await get(name)
    await put(name, bytes.subarray(0, -4))
    const found = (await readCheckpoint(location))!
    expect(found.step).toBe(1)
    expect(found.damaged[0]).toMatch(/step-00000002 is damaged \(s3:.*model.safetensors: it has 20 bytes/)
    await writeCheckpoint(location, checkpoint(2))
    expect((await readCheckpoint(location))!.step).toBe(2)
  })

  test('keeps the last ones and the best', async () => {
    for (const [step, value] of [3, 1, 2, 4].entries())
      await writeCheckpoint(
        location,
        { ...checkpoint(step), metric: { name: 'loss', value, mode: 'min' } },
        1,
      )
    const left = new Set((await keys()).map((key) => key.split('/')[0]))
    expect([...left]).toEqual(['step-00000001', 'step-00000003'])
    expect((await readCheckpoint(location, { best: 'loss' }))!.step).toBe(1)
  })
})

describe('an S3 that cannot be used', () => {
  async function refusal(work: Promise<unknown>): Promise<string> {
    const error: Error = await work.then(
      () => expect.unreachable('it was accepted'),
      (error) => error,
    )
    expect(error).toBeInstanceOf(LockstepError)
    expect(error.message).not.toContain('\n')
    return error.message
  }
  const writing = () => refusal(writeCheckpoint(location, checkpoint(1)))

  test('no such bucket', async () => {
    location = 's3://nowhere/x'
    expect(await writing()).toMatch(
      /^cannot write checkpoint s3:\/\/nowhere\/x\/step-00000001: NoSuchBucket: .*; create the bucket, or name/,
    )
    expect(await refusal(readCheckpoint(location))).toMatch(/^cannot read checkpoints in s3:.*NoSuchBucket/)
  })

  test('no credentials', async () => {
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) vi.stubEnv(name, undefined)
    expect(await writing()).toMatch(/CredentialsProviderError: .*; set AWS_ACCESS_KEY_ID and AWS_SECRET/)
  })

  test('an unknown key', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'stranger')
    expect(await writing()).toMatch(/: InvalidAccessKeyId: .*; set AWS_ACCESS_KEY_ID and .* to a key that/)
  })

  test('a bucket that refuses', async () => {
    const refusing = createServer((request, response) => {
      request.resume()
      response.writeHead(403, { 'content-type': 'application/xml' })
      response.end(
        '<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>',
      )
    })
    await new Promise<void>((resolve) => refusing.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void refusing.close())
    vi.stubEnv('AWS_ENDPOINT_URL', `http://127.0.0.1:${(refusing.address() as AddressInfo).port}`)
    expect(await writing()).toMatch(/: AccessDenied: Access Denied; allow s3:ListBucket, s3:GetObject/)
  })

  test('nobody there', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL', 'http://127.0.0.1:1')
    expect(await writing()).toMatch(/connect ECONNREFUSED 127.0.0.1:1; see that AWS_ENDPOINT_URL names/)
  })

  test('no region, where none is implied', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL', undefined)
    vi.stubEnv('AWS_REGION', undefined)
    expect(await writing()).toMatch(/Region is missing; set AWS_REGION$/)
  })

  test("without AWS's package", async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', withoutAws])
    expect(stdout).toBe(
      'LockstepError: cannot write checkpoint s3://training/step-00000001: s3:// needs the package ' +
        '@aws-sdk/client-s3, which is not there; install it: npm install @aws-sdk/client-s3\n',
    )
  })

  test.each([
    ['s3://', 'names no bucket: expected s3://bucket/prefix'],
    [
      'gs://bucket/x',
      'checkpoint location gs://bucket/x starts with gs://: give a directory or s3://bucket/prefix',
    ],
  ])('location %s', async (given, message) => {
    location = given
    expect(await writing()).toContain(message)
  })
})
