/**
 * A job as objects of Kubernetes, for kubectl apply: a Secret with the job's token, a Service without an address by which
 * pods have names (kubernetes.io, "Indexed Job with Pod-to-Pod Communication"), and an Indexed Job of a pod per node.
 */
import { randomBytes } from 'node:crypto'
import type { JobSpec, Job as KubernetesJob } from 'kubernetes-types/batch/v1.js'
import type { Secret, Service } from 'kubernetes-types/core/v1.js'
import { stringify } from 'yaml'
import { LockstepError } from '../../src/errors.js'
import { DEFAULT_PORT } from '../../src/runtime/environment/clusters/placement.js'
import { readToken } from '../token.js'
import type { Job } from './job.js'

/** Where the container finds the secret. */
const SECRETS = '/run/secrets/lockstep'
const POD_LABEL = 'batch.kubernetes.io/job-name'

export const kubernetes = {
  form: 'a manifest, with the secret: ddp-launch generate kubernetes --image IMAGE … | kubectl apply -f -',

  /** @param image with node, the script and lockstep, in its working directory. */
  generate(job: Job, image: string | undefined): string {
    if (image === undefined)
      throw new LockstepError(
        'generate kubernetes needs --image IMAGE: a container with node, the script and lockstep',
      )
    const token =
      job.tokenFile === undefined ? randomBytes(32).toString('hex') : readToken(job.tokenFile, {}, job.nodes)
    const metadata = { name: job.name }
    return [
      { apiVersion: 'v1', kind: 'Secret', metadata, stringData: { token } } satisfies Secret,
      {
        ...{ apiVersion: 'v1', kind: 'Service', metadata },
        // Pods look for the first before it is ready.
        spec: { clusterIP: 'None', publishNotReadyAddresses: true, selector: { [POD_LABEL]: job.name } },
      } satisfies Service,
      { apiVersion: 'batch/v1', kind: 'Job', metadata, spec: jobSpec(job, image) } satisfies KubernetesJob,
    ]
      .map((object) => stringify(object, { lineWidth: 0 }))
      .join('---\n')
  },
}

function jobSpec(job: Job, image: string): JobSpec {
  const { name, nodes } = job
  const resources = {
    ...(job.cores === undefined ? {} : { requests: { cpu: String(job.cores) } }),
    ...(job.gpus === 0 ? {} : { limits: { 'nvidia.com/gpu': String(job.gpus) } }),
  }
  const container = {
    ...{ name: 'ddp-launch', image, command: command(job), resources },
    volumeMounts: [{ name: 'token', mountPath: SECRETS, readOnly: true }],
  }
  return {
    ...{ completionMode: 'Indexed', completions: nodes, parallelism: nodes },
    // A pod that is lost ends the job on all: --max-restarts counts within it.
    backoffLimit: 0,
    template: {
      spec: {
        ...{ subdomain: name, restartPolicy: 'Never', terminationGracePeriodSeconds: job.graceSeconds },
        containers: [container],
        volumes: [{ name: 'token', secret: { secretName: name } }],
      },
    },
  }
}

/** `node_modules/.bin` of the working directory first, then wherever the image has it. */
function command({ name, nodes, port = DEFAULT_PORT, flags, script, scriptArguments }: Job): string[] {
  const launch = 'PATH="$PWD/node_modules/.bin:$PATH"; exec ddp-launch "$@"'
  const meet = nodes === 1 ? [] : ['--nnodes', String(nodes), '--rdzv-endpoint', `${name}-0.${name}:${port}`]
  const alone = nodes === 1 ? ['--standalone'] : []
  const words = [...alone, ...meet, '--token-file', `${SECRETS}/token`, ...flags, script, ...scriptArguments]
  // Kubernetes would expand $(NAME).
  return ['sh', '-c', launch, 'ddp-launch', ...words.map((word) => word.replaceAll('$(', '$$$$('))]
}
