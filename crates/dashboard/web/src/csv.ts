// RFC 4180, with times in UTC.

import type { Bucket } from "./series";
import type { Step } from "./steps";
import type { Kind } from "./wire";

const cell = (value: unknown): string => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

const line = (cells: unknown[]): string => `${cells.map(cell).join(",")}\r\n`;

export function toCsv(kind: Kind, buckets: Bucket[], steps: Step[], from: number, to: number): string {
  const iso = (at: number) => new Date(at).toISOString();
  const within = <T extends { time: number }>(rows: T[]) => rows.filter((row) => row.time >= from && row.time <= to);
  if (kind !== "number") {
    return line(["time", "value", "reason"]) + within(steps).map((step) => line([iso(step.time), step.value, step.reason])).join("");
  }
  const rows = within(buckets).map((b) => line([iso(b.time), b.min, b.mean, b.max, b.count, b.bad]));
  return line(["time", "min", "mean", "max", "count", "bad"]) + rows.join("");
}
