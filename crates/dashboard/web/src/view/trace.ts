// What the channel view shows: history over a range, and what comes live.

import { useEffect, useRef, useState } from "preact/hooks";
import { words } from "../api";
import { clock } from "../format";
import { load } from "../history";
import { BUCKETS_MAX, fromWire, holesFromWire, leftEdge, Series, summary, type Bucket, type Hole } from "../series";
import { addStep, joinSteps, sharesToSteps, toStep, type Step } from "../steps";
import { connection, gatewayNow, generation, holes, now, type ChannelModel } from "../state";
import { language, text } from "../text";
import type { Reading } from "../wire";
import { channelTitle, valueText } from "./words";

export const RANGES = ["15min", "1h", "6h", "24h", "7d", "30d", "1y"] as const;
const SHORTEST = RANGES[0];
export type RangeName = (typeof RANGES)[number];

const DAY = 86_400_000;
const SPANS: Record<RangeName, number> = {
  "15min": 15 * 60_000, "1h": DAY / 24, "6h": DAY / 4, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "1y": 365.25 * DAY,
};

/** Up to now and moving, or a fixed span that was dragged over or picked. */
export type Range =
  | { kind: "live"; name: RangeName }
  | { kind: "fixed"; from: number; to: number; before: RangeName };

/**
 * Readings of a boolean that are asked for one by one; where there are more, the
 * share of the time in which it was on is shown for each bucket.
 */
const EACH_MAX = 20_000;

export interface Data {
  buckets: Bucket[];
  gaps: Hole[];
  steps: Step[];
  /** Grows with each change. */
  version: number;
}

const iso = (at: number): string => new Date(at).toISOString();

export const rangeKey = (range: Range): string => (range.kind === "live" ? range.name : `${range.from} ${range.to}`);

/** One channel over one range. */
export class Trace {
  readonly data: { current: Data } = { current: { buckets: [], gaps: [], steps: [], version: 0 } };
  ready = false;
  error: string | null = null;
  private readonly series: Series;
  private reading = new AbortController();
  private done = "";

  constructor(readonly channel: ChannelModel, readonly range: Range, private readonly changed: () => void) {
    this.series = new Series(this.span);
  }

  get span(): number {
    return this.range.kind === "live" ? SPANS[this.range.name] : this.range.to - this.range.from;
  }

  private get isNumber(): boolean {
    return this.channel.spec.kind === "number";
  }

  start(): void {
    if (this.range.kind === "live") this.channel.followers.add(this.follow);
  }

  stop(): void {
    this.channel.followers.delete(this.follow);
    this.reading.abort();
  }

  private follow = (reading: Reading, time: number): void => {
    const { current } = this.data;
    if (this.isNumber) {
      this.series.add(time, typeof reading.value === "number" && reading.quality !== "bad" ? reading.value : null);
      this.show();
    } else {
      addStep(current.steps, toStep(reading));
    }
    current.version += 1;
  };

  private show(): void {
    const { current } = this.data;
    current.buckets = this.series.buckets;
    current.gaps = holes(this.series);
  }

  /** Reads the history, once for each `stamp`. */
  read(stamp: string): void {
    if (stamp === this.done) return;
    this.done = stamp;
    this.reading.abort();
    const mine = (this.reading = new AbortController());
    this.load(mine.signal).then(
      () => {
        this.ready = true;
        this.error = null;
        this.data.current.version += 1;
        this.changed();
      },
      (failure: unknown) => {
        if (mine.signal.aborted) return;
        this.error = words(failure);
        this.changed();
      },
    );
  }

  private async load(signal: AbortSignal): Promise<void> {
    const { range, channel } = this;
    const span = range.kind === "live" ? { from: range.name } : { from: iso(range.from), to: iso(range.to) };
    const query = { channel: channel.spec.channel, ...span };
    const { current } = this.data;
    if (channel.spec.kind !== "text") {
      const reduced = await load({ ...query, points: BUCKETS_MAX }, signal);
      const buckets = fromWire(reduced.buckets ?? []);
      const gaps = holesFromWire(reduced.gaps);
      if (this.isNumber) {
        this.series.merge(buckets, gaps);
        return this.show();
      }
      if (buckets.reduce((sum, bucket) => sum + bucket.count + bucket.bad, 0) > EACH_MAX) {
        current.steps = sharesToSteps(buckets, current.steps);
        current.gaps = gaps;
        return;
      }
    }
    const history = await load(query, signal);
    current.steps = joinSteps(history.readings ?? [], current.steps, text.gatewayOff);
    current.gaps = holesFromWire(history.gaps);
    const first = current.steps[0];
    // Said, not hidden: before this there is more than one answer holds.
    if (history.truncated && first) current.gaps.unshift({ from: this.from(gatewayNow()), to: first.time, reason: text.tooMany });
  }

  /** The time of the first thing there is to draw. */
  get first(): number | undefined {
    const { buckets, steps } = this.data.current;
    return buckets[0]?.time ?? steps[0]?.time;
  }

  private from(to: number): number {
    return this.range.kind === "fixed" ? this.range.from : to - this.span;
  }
}

/** Several channels over the same range; the first is the one that the view is of. */
export interface Traces {
  list: Trace[];
  range: Range;
  ready: boolean;
  error: string | null;
  retry: () => void;
  window: () => { from: number; to: number };
}

export function useTraces(shown: ChannelModel[], range: Range): Traces {
  const [, setChanges] = useState(0);
  const [attempt, setAttempt] = useState(0);
  const kept = useRef<Trace[]>([]);
  const started = useRef(new Set<Trace>());
  const key = rangeKey(range);
  const list = shown.map((channel) => {
    const known = kept.current.find((trace) => trace.channel === channel && rangeKey(trace.range) === key);
    return known ?? new Trace(channel, range, () => setChanges((changes) => changes + 1));
  });
  kept.current = list;
  const stamp = `${generation.value} ${attempt}`;
  useEffect(() => {
    for (const trace of started.current) {
      if (list.includes(trace)) continue;
      trace.stop();
      started.current.delete(trace);
    }
    for (const trace of list) {
      if (!started.current.has(trace)) {
        trace.start();
        started.current.add(trace);
      }
      if (connection.peek() === "live") trace.read(stamp);
    }
  }, [...list, stamp]);
  useEffect(() => () => started.current.forEach((trace) => trace.stop()), []);

  const window = () => {
    if (range.kind === "fixed") return { from: range.from, to: range.to };
    const to = gatewayNow();
    const span = SPANS[range.name];
    // Who picks thirty days wants to see them all, also the blank ones.
    if (range.name !== SHORTEST) return { from: to - span, to };
    return { from: leftEdge(Math.min(...list.map((trace) => trace.first ?? to)), to, span), to };
  };
  return {
    list,
    range,
    ready: list.every((trace) => trace.ready),
    error: list.find((trace) => trace.error)?.error ?? null,
    retry: () => setAttempt(attempt + 1),
    window,
  };
}

/** The chart in a sentence, for those who don't see it. */
export function spoken({ range, window }: Traces, shown: Trace[]): string {
  const { from, to } = window();
  const name = range.kind === "live" ? text.lastRange(text.ranges[range.name]!) : `${clock(language, from, now.peek())} – ${clock(language, to, now.peek())}`;
  const sentences = shown.map(({ channel, data }) => {
    const bounds = summary(data.current.buckets, from);
    const said = bounds ? text.chartFromTo(valueText(channel, bounds.min), valueText(channel, bounds.max)) : text.chartNone;
    return text.chartOf(channelTitle(channel), name, channel.spec.kind === "number" ? said : "");
  });
  return sentences.join(" ");
}
