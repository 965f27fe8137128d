/** `ddp-launch doctor` on this machine, and on projects made to be wrong. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { checks } from '../../launcher/doctor/checks.js'
import { allCopies } from '../../launcher/doctor/packages.js'
import { run } from '../../launcher/doctor.js'

const root = mkdtempSync(join(tmpdir(), 'lockstep-doctor-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

const machine = { cores: 2, gpus: [] }

/** A project with these packages, `path@version` below its folder. */
function project(name: string, packages: readonly string[]): string {
  const directory = join(root, name)
  for (const each of packages) {
    const at = each.lastIndexOf('@')
    const path = join(directory, each.slice(0, at))
    mkdirSync(path, { recursive: true })
    const json = { name: 'a-package', version: each.slice(at + 1), main: 'index.js' }
    writeFileSync(join(path, 'package.json'), JSON.stringify(json))
    writeFileSync(join(path, 'index.js'), 'throw new Error("not built")')
  }
  return directory
}

async function printed(argv: readonly string[]): Promise<{ code: number; text: string }> {
  const log = vi.spyOn(console, 'log').mockImplementation(() => {})
  try {
    return { code: await run(argv), text: log.mock.calls.flat().join('\n') }
  } finally {
    log.mockRestore()
  }
}

test('this machine can train, as JSON', async () => {
  const { code, text } = await printed(['--json'])
  expect(code).toBe(0)
  const json = JSON.parse(text)
  expect(json.ok).toBe(true)
  expect(json.checks.map((check: { name: string }) => check.name)).toEqual(Object.keys(checks))
  for (const { state, found } of json.checks) {
    expect(['ok', 'absent']).toContain(state)
    expect(found).not.toContain('\n')
  }
})

test('a second copy of TensorFlow.js stops it: exit code 1, and what mends it', async () => {
  const other = project('other', ['node_modules/@tensorflow/tfjs-core@4.20.0'])
  const { code, text } = await printed(['--project', other])
  expect(code).toBe(1)
  expect(text).toMatch(
    /^missing +TensorFlow\.js +two copies of @tensorflow\/tfjs-core: 4\.20\.0 for the project/m,
  )
  expect(text).toMatch(/^ok +onnxruntime +onnxruntime-node \d/m)
  expect(text).toMatch(/TensorFlow\.js: +npm dedupe/)
  expect(text).toMatch(/Training cannot run here: mend what is missing\.$/)
})

test('a wrong command line is one line', async () => {
  await expect(run(['--fast'])).rejects.toThrow(/^doctor: Unknown option '--fast' .*--json/)
})

describe('checks', () => {
  test('a tfjs-node without addon', async () => {
    const directory = project('unbuilt', ['node_modules/@tensorflow/tfjs-node@4.22.0'])
    expect(await checks['tfjs-node']!({ machine, directory })).toEqual({
      state: 'absent',
      found: '@tensorflow/tfjs-node 4.22.0 does not load: its addon is not built',
      mend: expect.stringMatching(
        /^node .*scripts\/link-tfjs-node\.mjs --package node_modules\/@tensorflow\/tfjs-node$/,
      ),
    })
  })

  test('CUDA that is not installed, beside a GPU', async () => {
    const finding = await checks.CUDA!({ machine: { cores: 2, gpus: ['0'] }, directory: process.cwd() })
    // Where CUDA works it is found.
    expect(finding.found).toMatch(/^GPUs 0: onnxruntime/)
    if (finding.state !== 'ok')
      expect(finding.mend).toMatch(/^ONNXRUNTIME_NODE_INSTALL=cuda12 node .*install\.js$/)
  })

  test('copies in nested folders, each once, links not followed', () => {
    const directory = project('nested', [
      'node_modules/x@1.0.0',
      'node_modules/@scope/y@1.0.0',
      'node_modules/@scope/y/node_modules/x@2.0.0',
    ])
    symlinkSync(join(directory, 'node_modules/@scope/y'), join(directory, 'node_modules/linked'))
    expect(allCopies('x', directory).map(({ version }) => version)).toEqual(['1.0.0', '2.0.0'])
  })
})
