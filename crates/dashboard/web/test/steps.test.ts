import assert from "node:assert/strict";
import { test } from "node:test";
import { toCsv } from "../src/csv";
import { addStep, joinSteps, segments, STEPS_MAX, type Step } from "../src/steps";
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

test("CSV holds exactly what is shown", () => {
  const rows = toCsv("number", [{ time: 0, min: 1, mean: 2, max: 3, count: 4, bad: 0 }, { time: 9000, min: null, mean: null, max: null, count: 0, bad: 1 }], [], 1000, 10_000);
  assert.equal(rows, "time,min,mean,max,count,bad\r\n1970-01-01T00:00:09.000Z,,,,0,1\r\n");
  assert.equal(toCsv("text", [], [{ time: 0, value: 'a "b", c' }], 0, 1), 'time,value,reason\r\n1970-01-01T00:00:00.000Z,"a ""b"", c",\r\n');
});
