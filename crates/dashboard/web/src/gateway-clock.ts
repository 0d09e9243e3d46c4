// The gateway's clock, as far as this browser knows it. Ages are counted on it:
// a phone whose clock is wrong must not make a fresh value look old.

/** An answer can only be late, never early: a larger difference is nearer the truth. */
const JITTER = 2000;

export class GatewayClock {
  private difference: number | null = null;

  /** The gateway said it was `theirs` (milliseconds) when our clock was `ours`. */
  observe(theirs: number, ours: number): void {
    const seen = theirs - ours;
    const known = this.difference;
    // A step of either clock shows as a difference that latency can't explain.
    this.difference = known === null || Math.abs(seen - known) > JITTER ? seen : Math.max(known, seen);
  }

  /** The gateway's time when our clock is `ours`; our own until it has told. */
  at(ours: number): number {
    return ours + (this.difference ?? 0);
  }

  /** Milliseconds that the gateway is ahead of this browser. */
  get ahead(): number {
    return this.difference ?? 0;
  }
}
