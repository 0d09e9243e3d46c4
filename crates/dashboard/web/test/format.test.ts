import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, clock, count, decimals, number, parseTime, rate, sharedDecimals, shortSpan, span, stepDecimals, title } from "../src/format";

test("numbers show about four digits", () => {
  for (const [value, expected] of [[0, "0"], [21.5, "21.50"], [1013.25, "1,013.3"], [123456.7, "123,457"], [0.00123, "0.001230"], [-3.14159, "-3.142"], [1e15, "1.00e+15"], [1e-9, "1.00e-9"]] as const) {
    assert.equal(number("en", value), expected);
  }
});

test("a small negative number isn't minus zero", () => {
  assert.equal(number("en", -0.001, 2), "0.00");
  assert.equal(number("en", -0.01, 2), "-0.01");
});

test("numbers follow the language", () => {
  assert.equal(number("de", 1013.25, 1), "1.013,3");
});

test("a channel's decimals are those of its values, four digits at most", () => {
  assert.equal(sharedDecimals([21.5, 22, 21.75]), 2);
  assert.equal(sharedDecimals([21, 22]), 0);
  assert.equal(sharedDecimals([21.123456789]), 2);
  assert.equal(sharedDecimals([14476, 0.5]), 0);
  assert.equal(sharedDecimals([1e-7]), 8);
  assert.equal(sharedDecimals([]), 0);
  assert.equal(sharedDecimals([NaN, Infinity, 2.5]), 1);
});

test("decimals never leave what Intl allows", () => {
  for (const value of [0, 5e-324, 1e-12, -1e-8, 1, 9999.9, 1e300, NaN, Infinity]) {
    const digits = decimals(value);
    assert.ok(Number.isInteger(digits) && digits >= 0 && digits <= 20, `${value}: ${digits}`);
  }
});

test("spans have their two largest parts", () => {
  for (const [seconds, long, short] of [[0, "0 s", "0 s"], [-5, "0 s", "0 s"], [59.9, "59 s", "59 s"], [65, "1 min 5 s", "1 min"], [660, "11 min", "11 min"], [3600, "1 h", "1 h"], [7800, "2 h 10 min", "2 h"], [273_600, "3 d 4 h", "3 d"]] as const) {
    assert.equal(span(seconds * 1000), long);
    assert.equal(shortSpan(seconds * 1000), short);
  }
});

test("sizes climb at a thousand", () => {
  for (const [value, expected] of [[0, "0 B"], [999, "999 B"], [1000, "1.00 kB"], [999_600, "1.00 MB"], [148_512_768, "149 MB"], [2_147_483_648, "2.15 GB"]] as const) {
    assert.equal(bytes("en", value).join(" "), expected);
  }
});

test("rates and counts", () => {
  assert.deepEqual([0, 0.04, 0.5, 9.84, 12.3, 1234.5].map((value) => rate("en", value)), ["0", "0.04", "0.5", "9.8", "12", "1,235"]);
  assert.equal(count("en", 12_345), "12,345");
});

test("microseconds survive", () => {
  assert.equal(parseTime("2026-11-24T08:20:03.123456Z") - Date.parse("2026-11-24T08:20:03.123Z"), 0.4560546875);
  assert.equal(parseTime("2026-11-24T08:20:03Z"), Date.parse("2026-11-24T08:20:03Z"));
});

test("the day is named when it isn't today", () => {
  const now = new Date(2026, 10, 24, 12, 0, 5).getTime();
  assert.equal(clock("en-GB", now, now, true), "12:00:05");
  assert.match(clock("en-GB", now - 86_400_000, now), /23 Nov.*12:00/);
});

test("names become titles", () => {
  assert.equal(title("load_1m"), "Load 1m");
  assert.equal(title("x-1"), "X 1");
});

test("an axis has as many decimals as its step", () => {
  assert.deepEqual([1, 2.5, 0.5, 0.25, 0.001, 500, 1e-12].map(stepDecimals), [0, 1, 1, 2, 3, 0, 8]);
});

test("the noise of a sum isn't a digit", () => {
  assert.equal(sharedDecimals([0.1 + 0.2, 0.42000000000000004]), 2);
});

test("acronyms are known", () => {
  assert.deepEqual(["cpu_temperature", "soil_ph", "co2", "door"].map(title), ["CPU temperature", "Soil pH", "CO₂", "Door"]);
});
