import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { describe, expect, it, test } from 'vitest'
import { rewrite } from '../scripts/require-commonjs.mjs'
import { compiled } from './compiled.js'
import { fixture, launch } from './launcher/launch.js'

describe('what is built loads CommonJS packages by require', () => {
  it.each([
    ["import * as tf from '@tensorflow/tfjs-core';", "const tf = packageRequire('@tensorflow/tfjs-core');"],
    ['import protobuf from "protobufjs";', "const protobuf = packageRequire('protobufjs');"],
    [
      "import { layers as l, metrics } from '@tensorflow/tfjs-layers';",
      "const { layers: l, metrics } = packageRequire('@tensorflow/tfjs-layers');",
    ],
    ['import protobuf from "protobufjs";', "const protobuf = packageRequire('protobufjs');"], // as esbuild writes
    ["import '@tensorflow/tfjs-backend-cpu';", "packageRequire('@tensorflow/tfjs-backend-cpu');"],
  ])('%s', (source, expected) => {
    const [head, ...lines] = rewrite(`#!/usr/bin/env node\n${source}\nuse();\n`).split('\n')
    expect(head).toBe('#!/usr/bin/env node')
    expect(lines).toEqual([expect.stringMatching(/ = makeRequire\(import\.meta\.url\); /), 'use();', ''])
    expect(lines[0]!.endsWith(`; ${expected}`)).toBe(true)
  })

  it('and leaves the rest alone', () => {
    const source = "import { readFile } from 'node:fs';\nimport { createLogUpdate } from 'log-update';\n"
    expect(rewrite(source)).toBe(source)
  })
})

/** A built file, and all that is loaded with it: other built files, and the packages that they name. */
function loadedWith(entry: string): { readonly files: Set<string>; readonly packages: Set<string> } {
  const [files, packages] = [new Set<string>(), new Set<string>()]
  const visit = (file: string) => {
    if (files.has(file)) return
    files.add(file)
    const source = readFileSync(file, 'utf8')
    for (const [, name] of source.matchAll(/^(?:(?:import|export)\b[^;'"]*|\}? from )['"]([^'"]+)['"]/gm))
      if (name!.startsWith('.')) visit(resolve(dirname(file), name!))
      else if (!name!.startsWith('node:')) packages.add(name!)
    for (const [, name] of source.matchAll(/packageRequire\('([^']+)'\)/g)) packages.add(name!)
  }
  visit(entry)
  return { files, packages }
}

describe('what is built', () => {
  it('is few files, and loads only what every rank needs', () => {
    const { files, packages } = loadedWith(compiled('src/index.ts'))
    expect(files.size).toBeGreaterThan(2)
    expect(files.size).toBeLessThan(40)
    const tensorflow = ['backend-cpu', 'core', 'layers'].map((name) => `@tensorflow/tfjs-${name}`)
    expect([...packages].sort()).toEqual([...tensorflow, 'protobufjs'])
    expect(loadedWith(compiled('src/collectives/worker.ts')).packages).toEqual(new Set())
  })

  test.each(['bug.mjs', 'bug.ts'])('in the stack of %s names the sources', async (script) => {
    const { code, stderr } = await launch(['--nproc', '1', fixture(script)])
    expect(stderr).toMatch(/at new DistributedSampler \(.*\/src\/data\/distributed-sampler\.ts:\d+:\d+\)/)
    expect(stderr).toMatch(new RegExp(`at .*${script}:4:\\d+`))
    expect(code).toBe(1)
  })
})
