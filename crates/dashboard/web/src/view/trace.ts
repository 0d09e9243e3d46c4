// What the channel view shows: history over a range, and what comes live.

import { useEffect, useRef, useState } from "preact/hooks";
import { clock } from "../format";
import { load } from "../history";
import { BUCKETS_MAX, fromWire, holesFromWire, leftEdge, Series, summary, type Bucket, type Hole } from "../series";
import { addStep, joinSteps, toStep, type Step } from "../steps";
import { connection, gatewayNow, generation, holes, now, type ChannelModel } from "../state";
import { language, text } from "../text";
import type { Reading } from "../wire";
import { channelTitle, valueText } from "./words";

export const RANGES = ["15min", "1h", "6h", "24h", "7d", "30d"] as const;
const SHORTEST = RANGES[0];
export type RangeName = (typeof RANGES)[number];

const SPANS: Record<RangeName, number> = {
  "15min": 15 * 60_000, "1h": 3_600_000, "6h": 6 * 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000, "30d": 30 * 86_400_000,
};

/** Up to now and moving, or a fixed span that was dragged over. */
export type Range =
  | { kind: "live"; name: RangeName }
  | { kind: "fixed"; from: number; to: number; before: RangeName };

export interface Data {
  buckets: Bucket[];
  gaps: Hole[];
  steps: Step[];
  /** Grows with each change. */
  version: number;
}

export interface Trace {
  data: { current: Data };
  ready: boolean;
  error: string | null;
  retry: () => void;
  window: () => { from: number; to: number };
  /** The chart in a sentence, for those who don't see it. */
  spoken: () => string;
}

export function useTrace(channel: ChannelModel, range: Range): Trace {
  const data = useRef<Data>({ buckets: [], gaps: [], steps: [], version: 0 });
  const [ready, setReady] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const [attempt, setAttempt] = useState(0);
  const wanted = generation.value;
  const span = range.kind === "live" ? SPANS[range.name] : range.to - range.from;
  const window = () => {
    if (range.kind === "fixed") return { from: range.from, to: range.to };
    const to = gatewayNow();
    const { buckets, steps } = data.current;
    // Who picks thirty days wants to see them all, also the blank ones.
    if (range.name !== SHORTEST) return { from: to - span, to };
    return { from: leftEdge(Math.min(buckets[0]?.time ?? to, steps[0]?.time ?? to), to, span), to };
  };
  const key = range.kind === "live" ? range.name : `${range.from} ${range.to}`;

  const series = useRef(new Series(span));
  useEffect(() => {
    series.current = new Series(span);
    data.current = { buckets: [], gaps: [], steps: [], version: data.current.version + 1 };
    setReady(false);
    if (range.kind === "fixed") return;
    const follow = (reading: Reading, time: number) => {
      const { current } = data;
      if (channel.spec.kind === "number") {
        series.current.add(time, typeof reading.value === "number" && reading.quality !== "bad" ? reading.value : null);
        current.buckets = series.current.buckets;
        current.gaps = holes(series.current);
      } else {
        addStep(current.steps, toStep(reading));
      }
      current.version += 1;
    };
    channel.followers.add(follow);
    return () => void channel.followers.delete(follow);
  }, [channel, key]);

  useEffect(() => {
    if (connection.peek() !== "live") return;
    const stop = new AbortController();
    const read = async () => {
      const query = range.kind === "live" ? { from: range.name } : { from: iso(range.from), to: iso(range.to) };
      const points = channel.spec.kind === "number" ? { points: BUCKETS_MAX } : {};
      const history = await load({ channel: channel.spec.channel, ...query, ...points }, stop.signal);
      const { current } = data;
      if (channel.spec.kind === "number") {
        series.current.merge(fromWire(history.buckets ?? []), holesFromWire(history.gaps));
        current.buckets = series.current.buckets;
        current.gaps = holes(series.current);
      } else {
        current.steps = joinSteps(history.readings ?? [], current.steps, text.gatewayOff);
        current.gaps = holesFromWire(history.gaps);
        const first = current.steps[0];
        // Said, not hidden: before this there is more than one answer holds.
        if (history.truncated && first) current.gaps.unshift({ from: window().from, to: first.time, reason: text.tooMany });
      }
      current.version += 1;
      setError(null);
      setReady(true);
    };
    read().catch((failure: unknown) => {
      if (!stop.signal.aborted) setError(failure instanceof Error ? failure.message : String(failure));
    });
    return () => stop.abort();
  }, [channel, key, wanted, attempt]);

  const spoken = () => {
    const { from, to } = window();
    const bounds = summary(data.current.buckets, from);
    const said = bounds ? text.chartFromTo(valueText(channel, bounds.min), valueText(channel, bounds.max)) : text.chartNone;
    const name =
      range.kind === "live"
        ? text.lastRange(text.ranges[range.name]!)
        : `${clock(language, from, now.peek())} – ${clock(language, to, now.peek())}`;
    return text.chartOf(channelTitle(channel), name, said);
  };
  return { data, ready, error, retry: () => setAttempt(attempt + 1), window, spoken };
}

const iso = (at: number): string => new Date(at).toISOString();
