// How far each broker has what is shown. Readings are sent in the order of
// their numbers, so what waits is what came last.

import type { Forwarder, Status } from "./wire";

/** The number that the store had reached at a time. */
interface Mark {
  time: number;
  committed: number;
}

/** Marks kept: half an hour of one a second. */
const MARKS_MAX = 1800;

/** A link lost this soon after the start tells nothing of what waits: that may be older. */
const FRESH = 60_000;

export class Marks {
  private marks: Mark[] = [];
  private epoch = "";

  add(epoch: string, time: number, committed: number): void {
    if (epoch !== this.epoch) this.marks = [];
    this.epoch = epoch;
    this.marks.push({ time, committed });
    if (this.marks.length > MARKS_MAX) this.marks.shift();
  }

  /** When the store had reached a number; null when that was before we looked. */
  timeOf(seq: number): number | null {
    const first = this.marks[0];
    if (!first || seq < first.committed) return null;
    let low = 0;
    let high = this.marks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.marks[middle]!.committed <= seq) low = middle + 1;
      else high = middle;
    }
    return this.marks[low - 1]!.time;
  }
}

/**
 * Until when a broker has acknowledged everything, milliseconds; Infinity when
 * nothing waits, null when it can't be told.
 */
export function acknowledgedUntil(forwarder: Forwarder, status: Status, marks: Marks): number | null {
  if (forwarder.pending === 0) return Infinity;
  // One that has been given everything stored waits for the last `pending`
  // numbers. With patterns of its own, or of a later date, this can't be said.
  if (forwarder.stored === status.store.stored) {
    const time = marks.timeOf(status.store.committed - forwarder.pending);
    if (time !== null) return time;
  }
  // Since it went away it has acknowledged nothing.
  const since = Date.parse(forwarder.since);
  return forwarder.state === "offline" && since - Date.parse(status.started) > FRESH ? since : null;
}
