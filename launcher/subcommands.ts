/**
 * What `ddp-launch` can do besides launching a script: `ddp-launch NAME …`. A subcommand is one module and one row here.
 * Without one of these names the command line is a script's (see launch.ts); no script can have such a name, since
 * scripts have an extension.
 */

export interface Subcommand {
  /** For --help: one line. */
  readonly summary: string
  /** Loaded when asked for: a launch should not wait for what it does not use. */
  readonly load: () => Promise<SubcommandModule>
}

export interface SubcommandModule {
  /**
   * @param argv what follows the subcommand's name.
   * @returns the exit code. @throws LockstepError for a wrong command line.
   */
  run(argv: readonly string[]): Promise<number>
}

export const SUBCOMMANDS: Readonly<Record<string, Subcommand>> = {
  doctor: {
    summary: 'says what training can use here, what is missing, and what mends it',
    load: () => import('./doctor.js'),
  },
  generate: {
    summary: 'writes a job for Slurm or Kubernetes: generate slurm [options] <script>',
    load: () => import('./generate.js'),
  },
  consolidate: {
    summary: 'makes one file of a checkpoint of many shards: consolidate <checkpoint> <out.safetensors>',
    load: packageScript('consolidate'),
  },
  plan: {
    summary:
      'says what of a model fits on each rank, and how to train it: plan <model.ts> --ranks N --memory 8GiB',
    load: packageScript('plan'),
  },
  bench: {
    summary: 'bench scaling: how much faster more ranks are, with a report',
    load: () => import('./scaling/command.js'),
  },
}

function packageScript(name: string): Subcommand['load'] {
  return async () => {
    const { runPackageScript } = await import('./package-script.js')
    return { run: (argv) => runPackageScript(name, argv) }
  }
}

/** The subcommand that a command line begins with, if any. */
export function findSubcommand(argv: readonly string[]): Subcommand | undefined {
  const [name] = argv
  return name !== undefined && Object.hasOwn(SUBCOMMANDS, name) ? SUBCOMMANDS[name] : undefined
}
