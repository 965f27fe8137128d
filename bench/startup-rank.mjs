// One rank of bench/startup.ts, TypeScript as much as JavaScript: an all-reduce of one number, then what memory it took.
import { readFileSync } from 'node:fs'
import { init } from 'lockstep'

const world = await init()
await world.collectives.allReduce(Float32Array.of(world.rank), 'sum')
const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${process.ppid}/status`, 'utf8'))
const launcher = Number(peak?.[1]) / 1024
console.log(JSON.stringify({ rank: process.resourceUsage().maxRSS / 1024, launcher }))
await world.close()
