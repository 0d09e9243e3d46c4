import assert from "node:assert/strict";
import { test } from "node:test";
import { isoMicros, toCsv, type Shown } from "../src/csv";
import { parseTime } from "../src/format";

const number = (buckets: Shown["buckets"]): Shown => ({ channel: "weather/light", unit: "lx", kind: "number", buckets, steps: [] });
const text = (steps: Shown["steps"]): Shown => ({ channel: "panel/mode", unit: "", kind: "text", buckets: [], steps });

test("times keep their microseconds", () => {
  for (const time of ["2026-11-24T08:20:03.123456Z", "2026-11-24T08:20:03.000001Z", "1970-01-01T00:00:00.000000Z", "2026-11-24T08:20:03.999999Z"]) {
    assert.equal(isoMicros(parseTime(time)), time);
  }
});

test("CSV holds exactly what is shown", () => {
  const rows = toCsv([number([{ time: 0, min: 1, mean: 2, max: 3, count: 4, bad: 0 }, { time: 9000, min: null, mean: null, max: null, count: 0, bad: 1 }])], 1000, 10_000);
  assert.equal(rows, "time,channel,unit,min,mean,max,count,bad\r\n1970-01-01T00:00:09.000000Z,weather/light,lx,,,,0,1\r\n");
  const quoted = toCsv([text([{ time: 0, value: 'a "b", c' }])], 0, 1);
  assert.equal(quoted, 'time,channel,value,reason\r\n1970-01-01T00:00:00.000000Z,panel/mode,"a ""b"", c",\r\n');
});

test("several channels are one table", () => {
  const rows = toCsv([number([{ time: 0, min: 1, mean: 2, max: 3, count: 4, bad: 0 }]), text([{ time: 0, value: "idle" }, { time: 1, value: null, reason: "timeout" }])], 0, 1);
  assert.equal(
    rows,
    "time,channel,unit,min,mean,max,count,bad,value,reason\r\n" +
      "1970-01-01T00:00:00.000000Z,weather/light,lx,1,2,3,4,0,,\r\n" +
      "1970-01-01T00:00:00.000000Z,panel/mode,,,,,,,idle,\r\n" +
      "1970-01-01T00:00:00.001000Z,panel/mode,,,,,,,,timeout\r\n",
  );
});
