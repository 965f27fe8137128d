/**
 * Builds the native addon of an installed @tensorflow/tfjs-node against the TensorFlow of a Python installation. Its own
 * installer fetches libtensorflow 2.9 (CUDA 11.2); a wheel of any TensorFlow 2 holds the same C API, and headers for it.
 *
 *   npm install --ignore-scripts @tensorflow/tfjs-node@4.22.0
 *   python3 -m venv tf && tf/bin/pip install tensorflow-cpu
 *   node scripts/link-tfjs-node.mjs --python tf/bin/python [--package node_modules/@tensorflow/tfjs-node]
 *
 * Linux only; needs g++, make and Node's headers. The wheel must stay where it is: the addon links to it.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    package: { type: 'string', default: 'node_modules/@tensorflow/tfjs-node' },
  },
})

const target = resolve(values.package)
if (process.platform !== 'linux') fail(`this is ${process.platform}: expected Linux, whose wheels it knows`)
if (!existsSync(join(target, 'binding.gyp'))) {
  fail(
    `no tfjs-node in ${target}: npm install --ignore-scripts @tensorflow/tfjs-node@4.22.0, or --package DIR`,
  )
}

const tensorflow = findTensorflow(values.python)
const libraries = {
  tensorflow: 'libtensorflow_cc.so.2',
  tensorflow_framework: 'libtensorflow_framework.so.2',
}
linkLibraries(join(target, 'deps'))
build()
const loaded = run(process.execPath, [
  '-e',
  `const tf = require(${JSON.stringify(target)}); console.log(tf.getBackend())`,
])
if (!loaded.endsWith('tensorflow'))
  fail(`the addon was built but backend ${loaded} was chosen, not tensorflow`)
console.log(`${target} runs on ${tensorflow}`)

/** The folder of Python's tensorflow package, found without importing it. */
function findTensorflow(python) {
  const code = 'import importlib.util as u; print(u.find_spec("tensorflow").submodule_search_locations[0])'
  try {
    return run(python, ['-c', code])
  } catch {
    fail(
      `${python} has no tensorflow: ${python} -m pip install tensorflow-cpu, or --python PYTHON of another`,
    )
  }
}

/** deps/ as tfjs-node's own installer would have filled it. */
function linkLibraries(deps) {
  rmSync(deps, { recursive: true, force: true })
  mkdirSync(join(deps, 'lib'), { recursive: true })
  symlinkSync(join(tensorflow, 'include'), join(deps, 'include'))
  for (const [name, file] of Object.entries(libraries)) {
    const library = join(tensorflow, file)
    if (!existsSync(library)) fail(`${library} is missing: expected the TensorFlow of a wheel from PyPI`)
    symlinkSync(library, join(deps, 'lib', file))
    symlinkSync(library, join(deps, 'lib', `lib${name}.so`))
  }
}

/** What node-pre-gyp would run, without its look-ups. */
function build() {
  const { binary } = JSON.parse(readFileSync(join(target, 'package.json'), 'utf8'))
  const napi = String(Math.min(Number(process.versions.napi), Math.max(...binary.napi_versions)))
  const place = binary.module_path.replace('{napi_build_version}', napi)
  const headers = resolve(dirname(process.execPath), '..')
  const nodedir = existsSync(join(headers, 'include/node/node_api.h')) ? [`--nodedir=${headers}`] : []
  const args = [
    nodeGyp(),
    'rebuild',
    ...nodedir,
    `--module_name=${binary.module_name}`,
    `--module_path=${join(target, place)}`,
    `--napi_build_version=${napi}`,
  ]
  execFileSync(process.execPath, args, { cwd: target, stdio: 'inherit' })
}

/** npm brings one, and names it to the scripts that it runs. */
function nodeGyp() {
  const ofNpm =
    process.env.npm_config_node_gyp ??
    join(run('npm', ['root', '-g']), 'npm/node_modules/node-gyp/bin/node-gyp.js')
  if (!existsSync(ofNpm)) fail(`no node-gyp at ${ofNpm}: run it by npm (npm run link-tfjs-node -- …)`)
  return ofNpm
}

function run(command, args) {
  const env = { ...process.env, TF_CPP_MIN_LOG_LEVEL: '3' }
  return execFileSync(command, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'ignore'] }).trim()
}

function fail(message) {
  console.error(`link-tfjs-node: ${message}`)
  process.exit(2)
}
