/** What a location's text means: `s3://bucket/prefix`, or a directory. Another kind of place is one row here. */
import { LockstepError } from '../../errors.js'
import { localStorage } from './local-storage.js'
import { s3Storage } from './s3-storage.js'
import type { Storage } from './storage.js'

const schemes: Readonly<Record<string, (location: string) => Storage>> = { s3: s3Storage }

/** @throws LockstepError for a scheme that is not in the table, or a location that it cannot read. */
export function storageAt(location: string): Storage {
  const scheme = /^([a-z][a-z0-9+.-]+):\/\//i.exec(location)?.[1]
  if (scheme === undefined) return localStorage(location)
  const storage = schemes[scheme]
  if (storage !== undefined) return storage(location)
  throw new LockstepError(
    `checkpoint location ${location} starts with ${scheme}://: give a directory or s3://bucket/prefix`,
  )
}
