// What happened: from what the page has seen, and from what the history tells.

import { signal } from "@preact/signals";
import { parseTime } from "./format";
import type { Bucket } from "./series";
import type { Gap, Reading, Status } from "./wire";

export interface Event {
  /** Milliseconds, on the gateway's clock. */
  time: number;
  kind: "lost" | "back" | "offline" | "online" | "gap" | "start" | "storeError" | "storeOk";
  /** The device, the broker, or of a gap the channel; empty for the gateway itself. */
  of: string;
  reason?: string;
  /** Of a gap: readings missing, and its end. */
  count?: number;
  to?: number;
}

/** As many as a person reads; the newest. */
const EVENTS_MAX = 200;

/** What the history tells and the page has seen may differ by a reading's interval, milliseconds. */
const SAME = 15_000;

/** Adds what isn't known yet, newest first. */
export function addEvents(known: Event[], more: Event[]): Event[] {
  const out = [...known];
  for (const event of more) {
    const same = (one: Event) => one.kind === event.kind && one.of === event.of && Math.abs(one.time - event.time) < SAME && (one.kind !== "gap" || one.reason === event.reason);
    if (!out.some(same)) out.push(event);
  }
  return out.sort((a, b) => b.time - a.time).slice(0, EVENTS_MAX);
}

export class Events {
  readonly list = signal<Event[]>([]);
  private before: Status | null = null;

  add(more: Event[]): void {
    if (more.length) this.list.value = addEvents(this.list.peek(), more);
  }

  /** All that is known to be missing now. */
  gaps(all: Event[]): void {
    this.list.value = addEvents(this.list.peek().filter((event) => event.kind !== "gap"), all);
  }

  /** Compares a status with the one before. */
  see(status: Status): void {
    this.add(changes(this.before, status));
    this.before = status;
  }
}

/** What changed between two statuses; of the first, what isn't well. */
export function changes(before: Status | null, next: Status): Event[] {
  const out: Event[] = [];
  if (before?.epoch !== next.epoch) out.push({ time: Date.parse(next.started), kind: "start", of: "" });
  for (const device of next.devices) {
    const old = before?.devices.find((one) => one.name === device.name)?.state ?? "ok";
    if (device.state === old) continue;
    const time = Date.parse(device.since);
    if (device.state === "lost") out.push({ time, kind: "lost", of: device.name, ...(device.error ? { reason: device.error } : {}) });
    if (device.state === "ok" && old === "lost") out.push({ time, kind: "back", of: device.name });
  }
  for (const forwarder of next.forwarders) {
    const old = before?.forwarders.find((one) => one.name === forwarder.name)?.state;
    if (forwarder.state === old) continue;
    const time = Date.parse(forwarder.since);
    // On the way back it is `connecting` now and then, which is neither.
    if (forwarder.state === "offline" && old !== "connecting") out.push({ time, kind: "offline", of: forwarder.name, ...(forwarder.error ? { reason: forwarder.error } : {}) });
    if (forwarder.state === "online") out.push({ time, kind: "online", of: forwarder.name });
  }
  const [was, is] = [before?.store.error ?? null, next.store.error ?? null];
  if (is && was !== is) out.push({ time: Date.parse(next.time), kind: "storeError", of: "", reason: is });
  if (was && !is) out.push({ time: Date.parse(next.time), kind: "storeOk", of: "" });
  return out;
}

/** Each start of the gateway and each change of a link, from the readings of `gateway/link_NAME`. */
export function linkEvents(name: string, readings: Reading[]): Event[] {
  const out: Event[] = [];
  let before: Reading | undefined;
  for (const reading of readings) {
    const time = Date.parse(reading.time);
    const started = before !== undefined && before.epoch !== reading.epoch;
    if (started) out.push({ time, kind: "start", of: "" });
    // The first word after a start is `offline`: nothing has been tried yet.
    const changed = before !== undefined && !started && before.value !== reading.value;
    if (changed && typeof reading.value === "boolean") out.push({ time, kind: reading.value ? "online" : "offline", of: name });
    before = reading;
  }
  return out;
}

/** Spans of time in which a device had bad readings, the newest few: only these are looked into. */
export function badSpans(buckets: Bucket[], width: number, most: number): [number, number][] {
  const out: [number, number][] = [];
  for (const { time, bad } of buckets) {
    if (bad === 0) continue;
    const last = out.at(-1);
    // One more bucket: there it may be back.
    if (last && time <= last[1]) last[1] = time + 2 * width;
    else out.push([time, time + 2 * width]);
  }
  return out.slice(-most);
}

/** Reasons that are the device's, not one value's. */
const LOST = new Set(["absent", "permission denied", "in use", "i/o error", "timeout", "driver bug"]);

/** When a device was lost and came back, from one of its channels' readings. */
export function deviceEvents(name: string, readings: Reading[]): Event[] {
  const out: Event[] = [];
  let lost = false;
  for (const { time, quality, reason } of readings) {
    const bad = quality === "bad" && LOST.has(reason ?? "");
    if (bad && !lost) out.push({ time: Date.parse(time), kind: "lost", of: name, reason: reason ?? "" });
    if (!bad && quality !== "bad" && lost) out.push({ time: Date.parse(time), kind: "back", of: name });
    if (quality !== "bad" || bad) lost = bad;
  }
  return out;
}

/** Losses of one cause this close together are one event, milliseconds: what goes on and on is a record a second. */
const ONE_LOSS = 60_000;

export function gapEvents(gaps: Gap[]): Event[] {
  const out: (Event & { to: number; count: number })[] = [];
  const last = new Map<string, (typeof out)[number]>();
  for (const { from, to, reason, count, channel } of gaps) {
    const key = `${channel} ${reason}`;
    const before = last.get(key);
    if (before && parseTime(from) - before.to < ONE_LOSS) {
      before.to = Math.max(before.to, parseTime(to));
      before.count += count;
      continue;
    }
    const event = { time: parseTime(from), to: parseTime(to), kind: "gap" as const, of: channel ?? "", reason, count };
    last.set(key, event);
    out.push(event);
  }
  return out;
}
