import assert from "node:assert/strict";
import { test } from "node:test";
import { acknowledgedUntil, Marks } from "../src/acks";
import { addEvents, badSpans, changes, deviceEvents, gapEvents, linkEvents, type Event } from "../src/events";
import type { Forwarder, Reading, Status } from "../src/wire";

const iso = (seconds: number) => new Date(seconds * 1000).toISOString();
const forwarder = (change: Partial<Forwarder> = {}): Forwarder => ({ name: "cloud", url: "", state: "online", since: iso(10), in_flight: 0, stored: 100, acknowledged: 100, pending: 0, dropped: 0, ...change });
const status = (change: Partial<Status> = {}): Status => ({
  gateway: "g", version: "1", epoch: "a", time: iso(100), started: iso(10), uptime_s: 90, clock: { synchronized: true, set: true },
  devices: [{ name: "weather", driver: "sim", state: "ok", since: iso(11), readings: 1, bad: 0 }],
  store: { path: "", size: 0, max_size: 0, readings: 0, committed: 120, queued: 0, read: 100, stored: 100, dropped: 0, bytes_written: 0 },
  forwarders: [forwarder()], ledger: { read: 100, stored: 100, dropped: 0 }, ...change,
});
const reading = (seconds: number, value: Reading["value"], epoch = "a", reason = ""): Reading => ({ seq: seconds, epoch, time: iso(seconds), value, quality: value === null ? "bad" : "good", ...(reason ? { reason } : {}) });
const words = (events: Event[]) => events.map(({ time, kind, of }) => `${time / 1000} ${kind} ${of}`.trim());

test("what changes between two statuses is an event", () => {
  const first = status();
  assert.deepEqual(words(changes(null, first)), ["10 start", "10 online cloud"]);
  assert.deepEqual(words(changes(first, first)), []);
  const lost = status({ devices: [{ ...first.devices[0]!, state: "lost", since: iso(50), error: "absent" }], forwarders: [forwarder({ state: "offline", since: iso(60) })] });
  assert.deepEqual(words(changes(first, lost)), ["50 lost weather", "60 offline cloud"]);
  const trying = { ...lost, forwarders: [forwarder({ state: "connecting", since: iso(70) })] };
  assert.deepEqual(words(changes(lost, trying)), []);
  assert.deepEqual(words(changes(trying, lost)), []);
  assert.deepEqual(words(changes(lost, { ...first, devices: [{ ...first.devices[0]!, since: iso(80) }] })), ["80 back weather", "10 online cloud"]);
  const full = { ...first, store: { ...first.store, error: "disk full" } };
  assert.deepEqual(words(changes(first, full)), ["100 storeError"]);
  assert.deepEqual(words(changes(full, first)), ["100 storeOk"]);
});

test("history tells of starts, links and devices", () => {
  const link = [reading(1, true), reading(2, false), reading(3, false), reading(9, false, "b"), reading(19, true, "b")];
  assert.deepEqual(words(linkEvents("cloud", link)), ["2 offline cloud", "9 start", "19 online cloud"]);
  const sensor = [reading(1, 1), reading(2, null, "a", "absent"), reading(3, null, "a", "absent"), reading(4, null, "a", "out of range"), reading(5, 2), reading(6, null, "a", "out of range")];
  assert.deepEqual(words(deviceEvents("weather", sensor)), ["2 lost weather", "5 back weather"]);
  const bucket = (time: number, bad: number) => ({ time, min: 1, mean: 1, max: 1, count: 1, bad });
  assert.deepEqual(badSpans([bucket(0, 0), bucket(10, 1), bucket(20, 2), bucket(30, 0), bucket(90, 1)], 10, 5), [[10, 40], [90, 110]]);
  assert.deepEqual(badSpans([bucket(10, 1), bucket(90, 1)], 10, 1), [[90, 110]]);
});

test("what the page saw and the history tells is listed once, the newest first", () => {
  const seen: Event[] = [{ time: 50_000, kind: "lost", of: "weather" }];
  const told: Event[] = [{ time: 50_900, kind: "lost", of: "weather" }, { time: 90_000, kind: "lost", of: "weather" }];
  assert.deepEqual(words(addEvents(seen, told)), ["90 lost weather", "50 lost weather"]);
  const many: Event[] = Array.from({ length: 500 }, (_, i) => ({ time: i * 60_000, kind: "lost", of: "x" }));
  assert.equal(addEvents([], many).length, 200);
});

test("a loss that goes on is one event, of its channel and cause", () => {
  const gap = (from: number, count: number, channel: string | null, reason = "edges missed") => ({ from: iso(from), to: iso(from + 1), count, channel, reason });
  const told = gapEvents([gap(1, 5, "panel/door"), gap(2, 7, "panel/door"), gap(2, 1, null, "store full"), gap(30, 1, "panel/door"), gap(200, 2, "panel/door")]);
  assert.deepEqual(told.map(({ time, to, of, count }) => [time, to, of, count]), [[1000, 31_000, "panel/door", 13], [2000, 3000, "", 1], [200_000, 201_000, "panel/door", 2]]);
});

test("how far a broker is, where that can be told", () => {
  const marks = new Marks();
  marks.add("a", 70_000, 90);
  marks.add("a", 80_000, 110);
  marks.add("a", 90_000, 120);
  const known = status({ started: iso(10) });
  assert.equal(acknowledgedUntil(forwarder(), known, marks), Infinity);
  assert.equal(acknowledgedUntil(forwarder({ pending: 5 }), known, marks), 80_000);
  assert.equal(acknowledgedUntil(forwarder({ pending: 50 }), known, marks), null, "before we looked");
  assert.equal(acknowledgedUntil(forwarder({ pending: 5, stored: 60 }), known, marks), null, "it isn't given everything");
  assert.equal(acknowledgedUntil(forwarder({ pending: 50, state: "offline", since: iso(75) }), known, marks), 75_000);
  assert.equal(acknowledgedUntil(forwarder({ pending: 50, state: "offline", since: iso(12) }), known, marks), null, "it may have waited before the start");
  marks.add("b", 100_000, 125);
  assert.equal(marks.timeOf(120), null, "numbers of another start");
});
