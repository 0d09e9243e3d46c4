import assert from "node:assert/strict";
import { test } from "node:test";
import { GatewayClock } from "../src/gateway-clock";
import { Rate } from "../src/rates";
import { isBytes, pretty } from "../src/units";

test("codes become what people write", () => {
  for (const [code, expected] of [["Cel", "°C"], ["%RH", "%"], ["m3", "m³"], ["ug/m3", "µg/m³"], ["V", "V"], ["", ""], [null, ""], ["1", ""], ["constructor", "constructor"]] as const) {
    assert.equal(pretty(code), expected);
  }
  assert.ok(isBytes("By") && !isBytes("kBy"));
});

test("ages are counted on the gateway's clock", () => {
  const clock = new GatewayClock();
  assert.equal(clock.at(5000), 5000);
  clock.observe(1_000_000, 5000);
  assert.equal(clock.at(6000), 1_001_000);
  // Late by 300 ms: the earlier answer was nearer the truth.
  clock.observe(1_001_000, 6300);
  assert.equal(clock.at(6300), 1_001_300);
  // The gateway's clock was set: believed at once, in both directions.
  clock.observe(500_000, 7000);
  assert.equal(clock.at(7000), 500_000);
  clock.observe(2_000_000, 8000);
  assert.equal(clock.ahead, 1_992_000);
});

test("a rate looks back ten seconds", () => {
  const rate = new Rate();
  assert.equal(rate.perSecond, null);
  for (let s = 0; s <= 30; s += 1) rate.add(s * 1000, s < 15 ? 0 : (s - 15) * 100);
  assert.equal(rate.perSecond, 100);
});

test("a counter that begins again begins the rate again", () => {
  const rate = new Rate();
  rate.add(0, 1000);
  rate.add(1000, 2000);
  rate.add(2000, 10);
  assert.equal(rate.perSecond, null);
  rate.add(3000, 20);
  assert.equal(rate.perSecond, 10);
});
