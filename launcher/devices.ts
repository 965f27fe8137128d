/** What this host has to offer: cores and CUDA devices. It refuses to load any CUDA library to find out. */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'

export interface Machine {
  /** Cores that this process may use. */
  readonly cores: number
  /** The visible CUDA devices, as `CUDA_VISIBLE_DEVICES` names them: indices, or UUIDs where the user gave those. */
  readonly gpus: readonly string[]
}

export function readMachine(env: NodeJS.ProcessEnv): Machine {
  return { cores: availableParallelism(), gpus: visibleGpus(env.CUDA_VISIBLE_DEVICES, countGpus(env)) }
}

/** CUDA's own rule: an unset variable shows all devices, and the list ends at the first entry that is none. */
export function visibleGpus(setting: string | undefined, present: number): string[] {
  if (setting === undefined) return Array.from({ length: present }, (_, i) => String(i))
  const entries = present === 0 ? [] : setting.split(',').map((entry) => entry.trim())
  const end = entries.findIndex(
    (entry) => !(/^(GPU|MIG)-/.test(entry) || (/^\d+$/.test(entry) && Number(entry) < present)),
  )
  return end === -1 ? entries : entries.slice(0, end)
}

function countGpus(env: NodeJS.ProcessEnv): number {
  const nodes = readdirSync('/dev').filter((name) => /^nvidia\d+$/.test(name))
  if (nodes.length > 0) return nodes.length
  // Where the driver has no device nodes (WSL) its own tool knows; where there is none, spawnSync says so at once.
  const listed = spawnSync('nvidia-smi', ['-L'], { env, encoding: 'utf8', timeout: 5000 })
  return listed.status === 0 ? (listed.stdout.match(/^GPU \d+:/gm)?.length ?? 0) : 0
}
