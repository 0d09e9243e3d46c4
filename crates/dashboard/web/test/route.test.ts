import assert from "node:assert/strict";
import { test } from "node:test";
import { channelHash, parseRoute } from "../src/route";

test("what stands behind the # is a view", () => {
  assert.deepEqual(parseRoute(""), { view: "overview" });
  assert.deepEqual(parseRoute("#/"), { view: "overview" });
  assert.deepEqual(parseRoute("#/system"), { view: "system" });
  assert.deepEqual(parseRoute("#/setup?token=a-b_c"), { view: "setup", token: "a-b_c" });
  assert.deepEqual(parseRoute("#/setup"), { view: "setup", token: "" });
  assert.deepEqual(parseRoute("#/weather/light"), { view: "channel", channel: "weather/light", others: [] });
});

test("channels over each other, each once", () => {
  assert.deepEqual(parseRoute("#/a/b+c/d+a/b+c/d+"), { view: "channel", channel: "a/b", others: ["c/d"] });
  assert.deepEqual(parseRoute(channelHash("a/b", ["c/d", "e/f"])), { view: "channel", channel: "a/b", others: ["c/d", "e/f"] });
});
