import { describe, expect, it } from 'vitest'
import { rewrite } from '../scripts/require-commonjs.mjs'

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
