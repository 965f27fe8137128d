import { describe, expect, it } from 'vitest'
import { LockstepError } from '../../../src/errors.js'
import { describeFailure, parseFailure } from '../../../src/runtime/environment/failure.js'

class PeerFailedError extends LockstepError {
  override name = 'PeerFailedError'
  override readonly exitCode = 1
}

describe('what a rank died of', () => {
  it('is one line for an error that a user can cause, even if its message has more', () => {
    expect(describeFailure(new LockstepError('first\n  second'))).toMatchObject({
      ...{ text: 'first second', oneLine: true, exitCode: 2, secondary: false, timedOut: false },
    })
  })

  it('knows the error of another copy of the package', () => {
    class LockstepError extends Error {
      exitCode = 2
    }
    class Derived extends LockstepError {
      override exitCode = 4
    }
    expect(describeFailure(new Derived('elsewhere'))).toMatchObject({
      text: 'elsewhere',
      oneLine: true,
      exitCode: 4,
    })
  })

  it('is a stack for every other error, whatever fields that has', () => {
    const error = Object.assign(new TypeError('bug'), { exitCode: 5 })
    const failure = describeFailure(error)
    expect(failure).toMatchObject({ oneLine: false, exitCode: 1 })
    expect(failure.text).toMatch(/^TypeError: bug\n {4}at .*failure\.test\.ts/)
  })

  it('is secondary when a lost peer is anywhere among its causes', () => {
    const lost = new PeerFailedError('rank 1 is gone')
    expect(describeFailure(lost)).toMatchObject({ secondary: true, exitCode: 1 })
    expect(describeFailure(new Error('a', { cause: new Error('b', { cause: lost }) })).secondary).toBe(true)
    expect(describeFailure(new Error('a', { cause: 'rank 1' })).secondary).toBe(false)
    const circular = new Error('a')
    circular.cause = circular
    expect(describeFailure(circular).secondary).toBe(false)
  })

  it.each([[undefined], [null], ['text'], [{ a: 1 }]])('can be %j', (thrown) => {
    expect(describeFailure(thrown)).toMatchObject({
      oneLine: false,
      exitCode: 1,
      text: expect.stringContaining('no Error'),
    })
  })

  it('leaves a SyntaxError of the running script alone', () => {
    let caught: unknown
    try {
      JSON.parse('{')
    } catch (error) {
      caught = error
    }
    expect(describeFailure(caught)).toMatchObject({ oneLine: false, exitCode: 1 })
  })

  it('travels as a line of JSON, of which half is nothing', () => {
    const failure = describeFailure(new Error('bug'))
    const line = `${JSON.stringify(failure)}\n`
    expect(parseFailure(line)).toEqual(failure)
    for (const text of ['', line.slice(0, 40), 'hello\n', '{"text":1}\n'])
      expect(parseFailure(text)).toBeUndefined()
  })
})
