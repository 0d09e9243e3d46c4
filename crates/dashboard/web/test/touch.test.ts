import assert from "node:assert/strict";
import { test } from "node:test";
import { pinched } from "../src/touch";

const at = (x: number) => 1000 + 10 * x; // ten milliseconds a pixel

test("what was under two fingers is under where they are now", () => {
  const [from, to] = pinched([100, 200], [50, 250], 300, at);
  const now = (x: number) => from + ((to - from) * x) / 300;
  assert.deepEqual([now(50), now(250)], [at(100), at(200)]);
  assert.equal(to - from, 1500);
});

test("fingers nearer together show more", () => {
  const [from, to] = pinched([50, 250], [100, 200], 300, at);
  assert.equal(to - from, 6000);
});

test("fingers on one spot don't divide by nothing", () => {
  const [from, to] = pinched([100, 200], [150, 150], 300, at);
  assert.ok(Number.isFinite(from) && Number.isFinite(to) && to > from);
});
