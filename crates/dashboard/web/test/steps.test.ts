import assert from "node:assert/strict";
import { test } from "node:test";
import { addStep, joinSteps, segments, sharesToSteps, STEPS_MAX, type Step } from "../src/steps";
import type { Reading } from "../src/wire";

const reading = (seconds: number, value: boolean | null): Reading => ({
  seq: seconds,
  time: new Date(seconds * 1000).toISOString(),
  value,
  quality: value === null ? "bad" : "good",
  ...(value === null ? { reason: "timeout" } : {}),
});

test("only changes are kept, in order", () => {
  const steps: Step[] = [];
  for (const [time, value] of [[1, true], [2, true], [3, false], [2.5, true], [4, false]] as const) addStep(steps, { time, value });
  assert.deepEqual(steps, [{ time: 1, value: true }, { time: 3, value: false }]);
});

test("a chattering input doesn't grow for ever", () => {
  const steps: Step[] = [];
  for (let time = 0; time < 3 * STEPS_MAX; time += 1) addStep(steps, { time, value: time % 2 === 0 });
  assert.equal(steps.length, STEPS_MAX);
  assert.equal(steps.at(-1)!.time, 3 * STEPS_MAX - 1);
});

test("history comes first, live after it", () => {
  const live: Step[] = [{ time: 2500, value: true }, { time: 4000, value: true }, { time: 5000, value: false }];
  const steps = joinSteps([reading(1, false), reading(2, false), reading(3, null)], live, "off");
  assert.deepEqual(steps, [
    { time: 1000, value: false },
    { time: 3000, value: null, reason: "timeout" },
    { time: 4000, value: true },
    { time: 5000, value: false },
  ]);
});

test("between two starts of the gateway nothing is known", () => {
  const history = [reading(1, true), reading(2, true), reading(9, true)].map((one, i) => ({ ...one, epoch: i < 2 ? "a" : "b" }));
  assert.deepEqual(joinSteps(history, [], "off"), [
    { time: 1000, value: true },
    { time: 2000, value: null, reason: "off" },
    { time: 9000, value: true },
  ]);
});

test("bars fill the span, each until the next", () => {
  const steps: Step[] = [{ time: 0, value: true }, { time: 150, value: false }, { time: 175, value: null }];
  const bars = segments(steps, 200, 100).map(({ from, to, value, lasted }) => [from, to, value, lasted]);
  assert.deepEqual(bars, [[0, 0.5, true, 50], [0.5, 0.75, false, 25], [0.75, 1, null, 25]]);
  assert.deepEqual(segments(steps, 0, 100), []);
});

test("what changed too often is shown as its share", () => {
  const bucket = (time: number, min: number | null, mean: number | null, max: number | null) => ({ time, min, mean, max, count: mean === null ? 0 : 9, bad: mean === null ? 9 : 0 });
  const steps = sharesToSteps([bucket(0, 0, 0, 0), bucket(1, 0, 0, 0), bucket(2, 0, 0.25, 1), bucket(3, 1, 1, 1), bucket(4, null, null, null)], [{ time: 3, value: false }, { time: 5, value: true }]);
  assert.deepEqual(steps, [{ time: 0, value: false }, { time: 2, value: true, share: 0.25 }, { time: 3, value: true }, { time: 4, value: null }, { time: 5, value: true }]);
});
