/** Runs the reference programs of PyTorch and Open MPI where they are installed, and reads their lines. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface PeerRow {
  readonly peer: string
  readonly bytes: number
  readonly ms: number
}

/** The Pythons to look for torch in. */
export const pythons = (): string[] => (process.env.PYTHONS ?? 'python3').split(',')

/** All-reduces of Gloo, on each Python of PYTHONS, and of Open MPI over shared memory. */
export function peerRows(directory: string, worldSize: number): PeerRow[] {
  return [
    ...pythons().flatMap((python) => gloo(directory, python, worldSize)),
    ...openMpi(directory, worldSize),
  ]
}

/** torch's version in this Python; undefined, and said, where it has none. */
export function torchVersion(python: string): string | undefined {
  const version = attempt(python, ['-c', 'import torch; print(torch.__version__)'])
  if (version === undefined) skipped(`${python}: cannot import torch (name Pythons in PYTHONS=a,b)`)
  return version?.trim()
}

function gloo(directory: string, python: string, worldSize: number): PeerRow[] {
  const version = torchVersion(python)
  if (version === undefined) return []
  const text = run(python, [join(directory, 'gloo_allreduce.py'), `${worldSize}`])
  return parse(`gloo, torch ${version}`, text)
}

function openMpi(directory: string, worldSize: number): PeerRow[] {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'))
  try {
    const binary = join(folder, 'allreduce')
    if (attempt('mpicc', ['-O2', join(directory, 'mpi_allreduce.c'), '-o', binary]) === undefined) {
      return skipped('Open MPI: there is no mpicc')
    }
    const text = run('mpirun', ['--allow-run-as-root', '--oversubscribe', '-np', `${worldSize}`, binary])
    return parse('openmpi', text)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Lines such as `GLOO ws=2 4.0KiB 190us busbw 0.02 GB/s`. */
function parse(peer: string, text: string): PeerRow[] {
  return [...text.matchAll(/ws=\d+ ([\d.]+)KiB (\d+)us/g)].map(([, kib, us]) => ({
    peer,
    bytes: Number(kib) * 1024,
    ms: Number(us) / 1000,
  }))
}

function attempt(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return undefined
  }
}

function run(command: string, args: readonly string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
}

function skipped(what: string): [] {
  console.error(`left out: ${what}`)
  return []
}
