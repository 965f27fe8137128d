/**
 * What a user gets: the package is built, packed and installed in an empty project, and trains there. Installs from the
 * npm registry; where that cannot be reached, these tests are skipped. What of it needs no installing is in package.test.ts.
 */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const TSC = createRequire(import.meta.url).resolve('typescript/lib/tsc.js')

const SCRIPT = `
import * as tf from '@tensorflow/tfjs'
import { adam, DataLoader, DistributedSampler, generateDigits, init } from 'lockstep'

const world = await init()

const model = tf.sequential({
  layers: [
    tf.layers.flatten({ inputShape: [28, 28, 1] }),
    tf.layers.dense({ units: 16, activation: 'relu' }),
    tf.layers.dense({ units: 10 }),
  ],
})
const ddp = await world.ddp(model, { loss: 'softmaxCrossEntropy', optimizer: adam(1e-3) })

const train = generateDigits(64, 1)
const sampler = new DistributedSampler(train.length, { rank: world.rank, size: world.size })
const loader = new DataLoader(train, { batchSize: 8, sampler })
for await (const { x, y } of loader) await ddp.step(x, y)

console.log(JSON.stringify({ rank: world.rank, steps: ddp.stepCount, paramsSha256: ddp.paramsSha256() }))
await world.close()
`
const TYPES = {
  module: 'nodenext',
  target: 'es2022',
  lib: ['es2022'],
  strict: true,
  types: ['node'],
  noEmit: true,
}

describe('the packed package, installed in an empty project', () => {
  const temporary = mkdtempSync(join(tmpdir(), 'lockstep-package-'))
  const project = join(temporary, 'project')
  let unreachable: string | undefined

  /** Runs a command in the project; what it leaves in the temporary directory is removed with the project. */
  function run(command: string, args: readonly string[], cwd = project) {
    const env = { ...process.env, TMPDIR: temporary, ONNXRUNTIME_NODE_INSTALL: 'skip' }
    return promisify(execFile)(command, args, { cwd, env, maxBuffer: 1 << 26 })
  }

  beforeAll(async () => {
    mkdirSync(project)
    writeFileSync(join(project, 'package.json'), '{ "type": "module" }\n')
    writeFileSync(join(project, 'train.ts'), SCRIPT)
    writeFileSync(
      join(project, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: TYPES, files: ['train.ts'] }),
    )

    if (isStale()) await run(process.execPath, ['scripts/build.mjs'], ROOT)
    await run('npm', ['pack', '--ignore-scripts', '--pack-destination', temporary], ROOT)
    const tarball = join(temporary, readdirSync(temporary).find((name) => name.endsWith('.tgz'))!)
    // As in most users' scripts: it has to share the one tfjs-core that Lockstep has as a peer.
    const tensorflow = '@tensorflow/tfjs@4.22.0'
    const probe = ['view', tensorflow, 'version', '--fetch-retries=1', '--fetch-retry-mintimeout=500']
    unreachable = await run('npm', probe).then(
      () => undefined,
      (error) => /npm error code (\w+)/.exec(error.message)?.[1] ?? error.message,
    )
    if (unreachable === undefined)
      await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball, tensorflow])
  }, 300_000)

  beforeEach(({ skip }) =>
    skip(unreachable !== undefined, `the npm registry cannot be reached: ${unreachable}`),
  )

  afterAll(() => rmSync(temporary, { recursive: true, force: true }))

  it('trains a TypeScript script with npx ddp-launch', async () => {
    const { stdout } = await run('npx', ['--no-install', 'ddp-launch', '--nproc', '2', 'train.ts'])
    const results = stdout
      .trim()
      .split('\n')
      .sort()
      .map((line) => JSON.parse(line.replace(/^\[\d\] /, '')))
    const paramsSha256 = expect.stringMatching(/^[0-9a-f]{64}$/)
    expect(results).toEqual([0, 1].map((rank) => ({ rank, steps: 4, paramsSha256 })))
    expect(results[0].paramsSha256).toBe(results[1].paramsSha256)
  })

  it('has types that resolve and hold', { timeout: 180_000 }, async () => {
    // Not skipLibCheck, for that would skip our declarations too; those of TensorFlow.js do not pass.
    const { stdout } = await run(process.execPath, [TSC, '--pretty', 'false']).catch((error) => error)
    expect(stdout).toContain('node_modules/@tensorflow/')
    expect(stdout).not.toMatch(/^(train\.ts|node_modules\/lockstep\/).*/m)
  })

  it('has one door', async () => {
    for (const inside of ['lockstep/src/index.js', 'lockstep/dist/src/collectives/all-reduce.js']) {
      const attempt = run(process.execPath, ['--input-type=module', '-e', `import '${inside}'`])
      await expect(attempt).rejects.toThrow('ERR_PACKAGE_PATH_NOT_EXPORTED')
    }
  })

  it('is what the examples run on in the repository too, not its source', async () => {
    const where = "console.log(import.meta.resolve('lockstep'))"
    const { stdout } = await run(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', where],
      ROOT,
    )
    expect(stdout.trim()).toBe(new URL('../dist/src/index.js', import.meta.url).href)
  })
})

/** Whether dist is missing or older than what it is built from. */
function isStale(): boolean {
  const time = (path: string) => statSync(join(ROOT, path), { throwIfNoEntry: false })?.mtimeMs ?? 0
  const built = time('dist/launcher/main.js')
  const sources = ['src', 'launcher', 'scripts'].flatMap((folder) =>
    filesIn(join(ROOT, folder)).map((file) => join(folder, file)),
  )
  return ['package.json', 'tsconfig.json', 'tsconfig.build.json', ...sources].some(
    (path) => time(path) > built,
  )
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(folder, name)).isFile(),
  )
}
