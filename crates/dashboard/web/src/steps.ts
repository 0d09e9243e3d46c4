// Booleans and texts over time: a value holds until the next one. Only the
// changes are kept.

import { parseTime } from "./format";
import type { Bucket } from "./series";
import type { Datum, Reading } from "./wire";

/** From `time` on the value was this; null: not known (bad). */
export interface Step {
  time: number;
  value: Datum | null;
  reason?: string;
  /** It changed too often to tell each: the share of its readings that were `true`. */
  share?: number;
}

/** A chattering input must not make the page grow; the newest are kept. */
export const STEPS_MAX = 2000;

/** Adds a reading, in order of time; one that changes nothing is forgotten. */
export function addStep(steps: Step[], step: Step): void {
  const last = steps.at(-1);
  if (last && ((last.value === step.value && last.share === step.share) || step.time < last.time)) return;
  steps.push(step);
  if (steps.length > STEPS_MAX) steps.splice(0, steps.length - STEPS_MAX);
}

export function toStep(reading: Reading): Step {
  const step: Step = { time: parseTime(reading.time), value: reading.quality === "bad" ? null : reading.value };
  if (reading.reason) step.reason = reading.reason;
  return step;
}

/**
 * History, then what came live after it. Between two starts of the gateway
 * nothing is known: `off` says so.
 */
export function joinSteps(history: Reading[], live: Step[], off: string): Step[] {
  const steps: Step[] = [];
  let before: Reading | undefined;
  for (const reading of history) {
    if (before && before.epoch !== reading.epoch) addStep(steps, { time: parseTime(before.time), value: null, reason: off });
    addStep(steps, toStep(reading));
    before = reading;
  }
  for (const step of live) addStep(steps, step);
  return steps;
}

/**
 * A boolean's buckets, whose mean is the share of `true`, and what came live
 * after them.
 */
export function sharesToSteps(buckets: Bucket[], live: Step[]): Step[] {
  const steps: Step[] = [];
  for (const { time, min, max, mean } of buckets) {
    if (mean === null) addStep(steps, { time, value: null });
    else if (min === max) addStep(steps, { time, value: mean === 1 });
    else addStep(steps, { time, value: true, share: mean });
  }
  const last = steps.at(-1)?.time ?? -Infinity;
  for (const step of live) if (step.time > last) addStep(steps, step);
  return steps;
}

/** One bar of a timeline, as fractions of its width. */
export interface Segment {
  from: number;
  to: number;
  value: Datum | null;
  step: Step;
  /** Milliseconds that it lasted within the span. */
  lasted: number;
}

/** The bars of `span` milliseconds before `now`. */
export function segments(steps: Step[], now: number, span: number): Segment[] {
  const start = now - span;
  const out: Segment[] = [];
  steps.forEach((step, i) => {
    const from = Math.max(step.time, start);
    const to = Math.min(steps[i + 1]?.time ?? now, now);
    if (to <= from) return;
    out.push({ from: (from - start) / span, to: (to - start) / span, value: step.value, step, lasted: to - from });
  });
  return out;
}
