import assert from "node:assert/strict";
import { test } from "node:test";
import { align, type Columns, BUCKETS_MAX, coarsen, columns, fromWire, join, leftEdge, offBefore, quietAfter, Series, summary, usualInterval, type Bucket, indexAt } from "../src/series";

const SPAN = 600_000; // so that a bucket is a second wide
const bucket = (time: number, value: number, count = 1): Bucket => ({ time, min: value, mean: value, max: value, count, bad: 0 });
const hole = (from: number, to: number) => ({ from, to, reason: "store full" });

test("readings in one span are one bucket", () => {
  const series = new Series(SPAN);
  for (const [time, value] of [[1000, 5], [1400, 1], [1999, 9], [2000, 4]] as const) series.add(time, value);
  assert.deepEqual(series.buckets, [{ time: 1000, min: 1, mean: 5, max: 9, count: 3, bad: 0 }, bucket(2000, 4)]);
});

test("a bad reading is counted and draws nothing", () => {
  const series = new Series(SPAN);
  series.add(1000, null);
  series.add(2000, 3);
  series.add(2100, null);
  assert.deepEqual(series.buckets[0], { time: 1000, min: null, mean: null, max: null, count: 0, bad: 1 });
  assert.deepEqual(series.buckets[1], { ...bucket(2000, 3), bad: 1 });
  assert.deepEqual(columns(series.buckets, [])[3], [null, 3]);
});

test("a late reading never puts the times out of order", () => {
  const series = new Series(SPAN);
  for (const time of [5000, 3000, 6000, 5900]) series.add(time, 1);
  assert.deepEqual(series.buckets.map(({ time }) => time), [5000, 6000]);
});

test("a fast channel for ever takes no more memory than a slow one", () => {
  const series = new Series(SPAN);
  for (let time = 0; time < 3 * SPAN; time += 10) series.add(time, Math.sin(time));
  assert.ok(series.buckets.length <= BUCKETS_MAX + 2, String(series.buckets.length));
  assert.ok(series.buckets[0]!.time >= 2 * SPAN - 2000);
});

test("the hole that a lost connection left is filled", () => {
  const series = new Series(SPAN);
  for (const time of [1000, 2000, 3000]) series.add(time, time);
  for (const time of [8500, 9500]) series.add(time, time);
  const history = [1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000].map((time) => bucket(time, time, 2));
  series.merge(history, []);
  assert.deepEqual(series.buckets.map(({ time }) => time), [1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9500]);
});

test("where history and live meet, the fuller bucket is kept", () => {
  const halfRead = join([bucket(1000, 1, 1)], [bucket(1200, 2, 5)], 1000);
  assert.deepEqual(halfRead, [{ ...bucket(1000, 2, 5) }]);
  const beganLate = join([bucket(1000, 1, 5)], [bucket(1900, 2, 1), bucket(2100, 3)], 1000);
  assert.deepEqual(beganLate, [bucket(1000, 1, 5), bucket(2100, 3)]);
});

test("no history is no loss", () => {
  const live = [bucket(1000, 1)];
  assert.deepEqual(join([], live, 1000), live);
});

test("a line stops at a known gap and in long silence", () => {
  const steady = [0, 1000, 2000, 3000].map((time) => bucket(time, 1));
  assert.deepEqual(columns(steady, [])[3], [1, 1, 1, 1]);
  assert.deepEqual(columns(steady, [hole(1200, 1800)])[3], [1, 1, null, 1, 1]);
  assert.deepEqual(columns([...steady, bucket(200_000, 2)], [])[3], [1, 1, 1, 1, null, 2]);
  const rare = [0, 60_000, 120_000, 180_000].map((time) => bucket(time, 1));
  assert.deepEqual(columns(rare, [])[3], [1, 1, 1, 1]);
});

test("several gaps between the same two buckets make one break", () => {
  const two = [bucket(0, 1), bucket(10_000, 2)];
  assert.deepEqual(columns(two, [hole(5000, 6000), hole(2000, 3000)])[3], [1, null, 2]);
});

test("times ascend whatever the gaps", () => {
  const buckets = [0, 1000, 2000, 30_000].map((time) => bucket(time, 1));
  const [times] = columns(buckets, [hole(-5000, 500), hole(900, 40_000)]);
  assert.deepEqual([...times].sort((a, b) => a - b), times);
});

test("wider buckets keep the extremes and weigh the mean", () => {
  const fine = [{ ...bucket(0, 1, 3), min: -5 }, { ...bucket(1000, 5, 1), max: 9, bad: 2 }, bucket(4000, 7)];
  assert.deepEqual(coarsen(fine, 4000), [{ time: 0, min: -5, mean: 2, max: 9, count: 4, bad: 2 }, bucket(4000, 7)]);
  const bad: Bucket = { time: 0, min: null, mean: null, max: null, count: 0, bad: 1 };
  assert.deepEqual(coarsen([bad, bucket(1000, 3)], 4000), [{ ...bucket(0, 3), bad: 1 }]);
  assert.deepEqual(coarsen([bad, { ...bad, time: 1 }], 4000), [{ ...bad, bad: 2 }]);
});

test("empty buckets of the answer are left out", () => {
  const time = "1970-01-01T00:00:01Z";
  const empty = { time, min: null, mean: null, max: null, count: 0, bad: 0 };
  assert.deepEqual(fromWire([empty, { ...empty, bad: 1 }]), [{ time: 1000, min: null, mean: null, max: null, count: 0, bad: 1 }]);
});

test("the summary is of what is shown", () => {
  const buckets = [bucket(0, 100), bucket(1000, 1, 3), bucket(2000, 5, 1)];
  assert.deepEqual(summary(buckets, 500), { min: 1, max: 5, mean: 2 });
  assert.equal(summary([], 0), null);
});

test("the usual interval is the median", () => {
  assert.equal(usualInterval([0, 1000, 2000, 9000].map((time) => bucket(time, 1))), 1000);
  assert.equal(usualInterval([]), 0);
});

test("a young chart begins where its data does, a minute wide at least", () => {
  assert.equal(leftEdge(undefined, 1_000_000, 900_000), 100_000);
  assert.equal(leftEdge(700_000, 1_000_000, 900_000), 700_000);
  assert.equal(leftEdge(999_000, 1_000_000, 900_000), 940_000);
  assert.equal(leftEdge(1000, 1_000_000, 900_000), 100_000);
});

test("the time when the gateway was off is a hole", () => {
  const buckets = [1000, 2000, 9500, 10_500].map((time) => bucket(time, 1));
  assert.deepEqual(offBefore(9700, buckets, 1000, "off"), { from: 3000, to: 9700, reason: "off" });
  assert.equal(offBefore(500, buckets, 1000, "off"), null, "it started before all that is shown");
  assert.equal(offBefore(2900, buckets.slice(0, 2), 1000, "off"), null, "nothing has come since");
  assert.equal(offBefore(10_900, buckets, 1000, "off"), null, "too short to see");
  assert.equal(offBefore(20_000, [], 1000, "off"), null);
});

test("silence is unusual by the channel's own measure", () => {
  assert.equal(quietAfter([0, 1000, 2000].map((time) => bucket(time, 1))), 90_000);
  assert.equal(quietAfter([0, 60_000, 120_000].map((time) => bucket(time, 1))), 900_000);
});

test("channels of different pace share one column of times", () => {
  const a: Columns = [[1, 3], [1, 1], [1, 1], [1, null]];
  const b: Columns = [[2, 3], [5, 6], [5, 6], [5, 6]];
  assert.equal(align([a]), a);
  assert.deepEqual(align([a, b]), [[1, 2, 3], [1, undefined, 1], [1, undefined, 1], [1, null, null], [undefined, 5, 6], [undefined, 5, 6], [undefined, 5, 6]]);
});

test("a break stays as wide as it was among the points of others", () => {
  const a: Columns = [[1, 5, 9], [1, null, 1], [1, null, 1], [1, null, 1]];
  const times = [2, 4, 6, 8];
  const aligned = align([a, [times, times, times, times]]);
  assert.deepEqual(aligned[3], [1, null, null, null, null, null, 1]);
  assert.deepEqual(aligned[4], [undefined, 2, 4, undefined, 6, 8, undefined]);
});

test("the point under the cursor is the last one before it", () => {
  assert.deepEqual([0, 1, 1.5, 2, 9].map((time) => indexAt([1, 2], time)), [-1, 0, 0, 1, 1]);
});
