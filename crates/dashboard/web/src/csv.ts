// RFC 4180, with times in UTC.

import type { Bucket } from "./series";
import type { Step } from "./steps";
import type { Kind } from "./wire";

/** What a channel shows. */
export interface Shown {
  channel: string;
  unit: string;
  kind: Kind;
  buckets: Bucket[];
  steps: Step[];
}

const cell = (value: unknown): string => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

const line = (cells: unknown[]): string => `${cells.map(cell).join(",")}\r\n`;

/** Milliseconds with a fraction → `2026-11-24T08:20:03.123456Z`, as the gateway writes it. */
export function isoMicros(at: number): string {
  const micros = Math.round(at * 1000);
  const fraction = String(((micros % 1000) + 1000) % 1000).padStart(3, "0");
  return `${new Date(Math.floor(micros / 1000)).toISOString().slice(0, -1)}${fraction}Z`;
}

/** The columns of numbers are those of `GET /api/v1/readings.csv` with `points`. */
const NUMBERS = ["time", "channel", "unit", "min", "mean", "max", "count", "bad"];
const CHANGES = ["value", "reason"];

/** Everything shown between two times, channel by channel. */
export function toCsv(shown: Shown[], from: number, to: number): string {
  const numbers = shown.some((one) => one.kind === "number");
  const changes = shown.some((one) => one.kind !== "number");
  const head = numbers ? [...NUMBERS, ...(changes ? CHANGES : [])] : [...NUMBERS.slice(0, 2), ...CHANGES];
  const within = (rows: Bucket[]) => rows.filter((row) => row.time >= from && row.time <= to);
  // A value that began before is shown as well, when it lasted until then.
  const lasting = (steps: Step[]) => steps.filter((step, i) => step.time <= to && (steps[i + 1]?.time ?? Infinity) > from);
  const rows = shown.flatMap(({ channel, unit, kind, buckets, steps }) => {
    const pad = numbers ? [unit, "", "", "", "", ""] : [];
    return kind === "number"
      ? within(buckets).map((b) => [isoMicros(b.time), channel, unit, b.min, b.mean, b.max, b.count, b.bad, ...(changes ? ["", ""] : [])])
      : lasting(steps).map((step) => [isoMicros(step.time), channel, ...pad, step.share ?? step.value, step.reason]);
  });
  return line(head) + rows.map(line).join("");
}
