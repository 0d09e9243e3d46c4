// What a chart is drawn from: a channel's numbers over a sliding span of time,
// reduced to buckets. History arrives reduced; live readings are put into
// buckets of the same width as they come, so a fast channel costs no more
// memory or drawing than a slow one.

import { parseTime } from "./format";
import type { Gap, WireBucket } from "./wire";

/** A span of time: its first and last reading's time are kept to draw points where they were. */
export interface Bucket {
  /** Milliseconds, of the bucket's (first) reading. */
  time: number;
  min: number | null;
  mean: number | null;
  max: number | null;
  count: number;
  bad: number;
}

/** A span in which there is nothing to draw, and why. */
export interface Hole {
  from: number;
  to: number;
  reason: string;
  /** How many readings are missing, when that is known. */
  count?: number;
}

/** How many buckets a chart has at most: about one for each two pixels. */
export const BUCKETS_MAX = 600;

/**
 * Silence this many times longer than usual is drawn as a hole. Filters such as
 * `delta` make silence normal, so it must also be longer than QUIET_MIN.
 */
const QUIET_FACTOR = 15;
const QUIET_MIN = 90_000;

export class Series {
  buckets: Bucket[] = [];
  gaps: Hole[] = [];

  /** @param span milliseconds that the chart shows */
  constructor(readonly span: number) {}

  /** Milliseconds that one bucket stands for. */
  get width(): number {
    return this.span / BUCKETS_MAX;
  }

  /** A live reading; `value` is null when it is bad. */
  add(time: number, value: number | null): void {
    const last = this.buckets.at(-1);
    if (last && slot(time, this.width) <= slot(last.time, this.width)) {
      // A reading a little late belongs to an earlier bucket; the newest
      // differs from it by less than a person can see.
      include(last, value);
      return;
    }
    const bucket: Bucket = { time, min: null, mean: null, max: null, count: 0, bad: 0 };
    include(bucket, value);
    this.buckets.push(bucket);
    this.forget(time);
  }

  /** History up to some moment; what came live since then stays. */
  merge(buckets: Bucket[], gaps: Hole[]): void {
    this.buckets = join(buckets, this.buckets, this.width);
    this.gaps = gaps;
    const last = this.buckets.at(-1);
    if (last) this.forget(last.time);
  }

  private forget(now: number): void {
    // One bucket before the chart's edge stays: its line enters from the left.
    const edge = now - this.span;
    let old = 0;
    while (old + 1 < this.buckets.length && this.buckets[old + 1]!.time < edge) old += 1;
    if (old) this.buckets.splice(0, old);
    // However odd the times: never more than twice what is drawn.
    if (this.buckets.length > 2 * BUCKETS_MAX) this.buckets.splice(0, this.buckets.length - BUCKETS_MAX);
    this.gaps = this.gaps.filter((gap) => gap.to > edge);
  }
}

const slot = (time: number, width: number): number => Math.floor(time / width);

function include(bucket: Bucket, value: number | null): void {
  if (value === null) {
    bucket.bad += 1;
    return;
  }
  bucket.min = bucket.min === null ? value : Math.min(bucket.min, value);
  bucket.max = bucket.max === null ? value : Math.max(bucket.max, value);
  bucket.mean = bucket.mean === null ? value : bucket.mean + (value - bucket.mean) / (bucket.count + 1);
  bucket.count += 1;
}

/**
 * History and what came live, each in order. Where both have the same bucket,
 * the one that saw more readings is kept: history's last bucket may have been
 * read half full, and live's first begins when the page did.
 */
export function join(history: Bucket[], live: Bucket[], width: number): Bucket[] {
  const last = history.at(-1);
  if (!last) return live;
  const end = slot(last.time, width);
  const later = live.filter((bucket) => slot(bucket.time, width) > end);
  const same = live.find((bucket) => slot(bucket.time, width) === end);
  const fuller = same && same.count + same.bad > last.count + last.bad ? { ...same, time: last.time } : last;
  return [...history.slice(0, -1), fuller, ...later];
}

/** From the API's answer. */
export function fromWire(buckets: WireBucket[]): Bucket[] {
  return buckets
    .filter((bucket) => bucket.count > 0 || bucket.bad > 0)
    .map((bucket) => ({ ...bucket, time: parseTime(bucket.time) }));
}

export function holesFromWire(gaps: Gap[] | undefined): Hole[] {
  return (gaps ?? []).map((gap) => ({
    from: parseTime(gap.from),
    to: parseTime(gap.to),
    reason: gap.reason,
    count: gap.count,
  }));
}

/** The usual time between buckets: the median of the newest few. */
export function usualInterval(buckets: Bucket[]): number {
  const recent = buckets.slice(-61);
  const steps = recent.slice(1).map((bucket, i) => bucket.time - recent[i]!.time);
  steps.sort((a, b) => a - b);
  return steps[Math.floor(steps.length / 2)] ?? 0;
}

/**
 * The span before the gateway's present start in which it was off: nothing was
 * read then, and no gap record can tell of it. Null when there is none, or it
 * is too short to see.
 */
export function offBefore(started: number, buckets: Bucket[], width: number, reason: string): Hole | null {
  // A bucket of history bears the time at which it begins, which may be a little
  // before the start that its readings come after.
  const after = buckets.findIndex((bucket) => bucket.time > started - width);
  const last = buckets[after - 1];
  if (!last || started - last.time < 2 * width) return null;
  return { from: last.time + width, to: started, reason };
}

/** The buckets put together into wider ones, for a chart with fewer pixels. */
export function coarsen(buckets: Bucket[], width: number): Bucket[] {
  const out: Bucket[] = [];
  for (const bucket of buckets) {
    const last = out.at(-1);
    if (!last || slot(last.time, width) !== slot(bucket.time, width)) {
      out.push({ ...bucket });
      continue;
    }
    const n = last.count + bucket.count;
    if (bucket.mean !== null) last.mean = ((last.mean ?? 0) * last.count + bucket.mean * bucket.count) / n;
    if (bucket.min !== null) last.min = Math.min(last.min ?? Infinity, bucket.min);
    if (bucket.max !== null) last.max = Math.max(last.max ?? -Infinity, bucket.max);
    last.count = n;
    last.bad += bucket.bad;
  }
  return out;
}

/** A chart that has just begun shows at least this much, milliseconds. */
const YOUNG = 60_000;

/**
 * The left edge of a chart: `span` before `to`, or where the data begins, so
 * that a gateway started a minute ago has a minute's chart and not a blank one.
 */
export function leftEdge(first: number | undefined, to: number, span: number): number {
  return Math.max(to - span, Math.min(first ?? 0, to - YOUNG));
}

/** Silence longer than this is unusual, milliseconds. */
export function quietAfter(buckets: Bucket[]): number {
  return Math.max(QUIET_MIN, QUIET_FACTOR * usualInterval(buckets));
}

/** What uPlot draws: seconds, minimum, maximum, mean; a null breaks the line. */
export type Columns = [number[], (number | null)[], (number | null)[], (number | null)[]];

/**
 * The buckets as columns, with a break wherever the line must not pass: at a
 * bucket with bad readings alone, in a known gap, and in unusual silence.
 */
export function columns(buckets: Bucket[], gaps: Hole[]): Columns {
  const out: Columns = [[], [], [], []];
  const put = (time: number, min: number | null, max: number | null, mean: number | null) => {
    out[0].push(time / 1000);
    out[1].push(min);
    out[2].push(max);
    out[3].push(mean);
  };
  const quiet = quietAfter(buckets);
  const breaks = [...gaps].sort((a, b) => a.from - b.from);
  let next = 0;
  let before: Bucket | undefined;
  for (const bucket of buckets) {
    if (before) {
      while (next < breaks.length && breaks[next]!.to <= before.time) next += 1;
      const gap = breaks[next];
      const missing = gap !== undefined && gap.from < bucket.time && gap.to > before.time;
      if (missing || bucket.time - before.time > quiet) put((before.time + bucket.time) / 2, null, null, null);
    }
    put(bucket.time, bucket.min, bucket.max, bucket.mean);
    before = bucket;
  }
  return out;
}

/**
 * The columns of several channels over one column of times, as uPlot wants
 * them. Where a channel has no point there is `undefined`, which its line passes
 * over; null still breaks it.
 */
export function align(tables: Columns[]): (number | null | undefined)[][] {
  const [only] = tables;
  if (tables.length === 1 && only) return only;
  const times = [...new Set(tables.flatMap(([time]) => time))].sort((a, b) => a - b);
  const places = new Map(times.map((time, i) => [time, i]));
  const out: (number | null | undefined)[][] = [times];
  for (const [time, ...values] of tables) {
    const at = time.map((one) => places.get(one)!);
    for (const column of values) {
      const wide = new Array<number | null | undefined>(times.length).fill(undefined);
      at.forEach((place, i) => {
        wide[place] = column[i];
      });
      spreadNulls(wide);
      out.push(wide);
    }
  }
  return out;
}

/** A break reaches from the point before it to the one after it, however many points others have between. */
function spreadNulls(column: (number | null | undefined)[]): void {
  for (const [order, step] of [[column.keys(), -1], [[...column.keys()].reverse(), 1]] as const) {
    for (const i of order) if (column[i] === undefined && column[i + step] === null) column[i] = null;
  }
}

/** The index of the point at a time or the last one before it; -1 when there is none. */
export function indexAt(times: number[], time: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle]! <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The lowest, highest and mean number shown; null when there is none. */
export function summary(buckets: Bucket[], from: number): { min: number; max: number; mean: number } | null {
  let min = Infinity;
  let max = -Infinity;
  let sum = 0;
  let n = 0;
  for (const bucket of buckets) {
    if (bucket.time < from || bucket.min === null || bucket.max === null || bucket.mean === null) continue;
    min = Math.min(min, bucket.min);
    max = Math.max(max, bucket.max);
    sum += bucket.mean * bucket.count;
    n += bucket.count;
  }
  return n ? { min, max, mean: sum / n } : null;
}
