/** An S3 service in a process of its own, and the environment that leads to it, for as long as a test file runs. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const S3RVER = createRequire(import.meta.url).resolve('s3rver/bin/s3rver.js')

export interface S3Server {
  readonly url: string
  stop(): Promise<void>
}

/** With one empty bucket. */
export async function startS3(bucket: string): Promise<S3Server> {
  const directory = await mkdtemp(join(tmpdir(), 'lockstep-s3-'))
  const args = [S3RVER, '--directory', directory, '--port', '0', '--configure-bucket', bucket]
  const server = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines = createInterface(server.stdout)
  let url: string | undefined
  for await (const line of lines) {
    url = /listening on ([\d.]+:\d+)/.exec(line)?.[1]
    if (url !== undefined) break
  }
  const stop = async () => {
    server.kill('SIGKILL')
    await once(server, 'exit')
    await rm(directory, { recursive: true })
  }
  return { url: `http://${url}`, stop }
}

/** What AWS's package reads; nothing of the machine's own configuration. */
export function s3Environment(url: string): Record<string, string> {
  return {
    AWS_ENDPOINT_URL: url,
    AWS_ACCESS_KEY_ID: 'S3RVER',
    AWS_SECRET_ACCESS_KEY: 'S3RVER',
    AWS_CONFIG_FILE: '/dev/null',
    AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_MAX_ATTEMPTS: '1',
    AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
  }
}
