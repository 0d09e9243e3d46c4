// Readings per second out of counters that only grow.

/** Milliseconds that a rate looks back. */
const WINDOW = 10_000;

export class Rate {
  private samples: [time: number, total: number][] = [];

  add(time: number, total: number): void {
    const last = this.samples.at(-1);
    // A restart, or a clock that was set: begin again.
    if (last && (total < last[1] || time < last[0])) this.samples = [];
    this.samples.push([time, total]);
    while (this.samples.length > 2 && time - this.samples[1]![0] >= WINDOW) this.samples.shift();
  }

  /** A second's worth; null until two samples are known. */
  get perSecond(): number | null {
    const first = this.samples[0];
    const last = this.samples.at(-1);
    if (!first || !last || last[0] - first[0] < 500) return null;
    return ((last[1] - first[1]) * 1000) / (last[0] - first[0]);
  }
}
