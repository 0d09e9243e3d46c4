// Exactly what the chart shows, as CSV.

import { toCsv } from "../csv";
import type { Traces } from "./trace";

export function saveCsv({ list, range, window }: Traces): void {
  const { from, to } = window();
  // A fixed span has the gateway's own buckets, of which the first may begin a little before it.
  const edge = range.kind === "fixed" ? -Infinity : from;
  const shown = list.map(({ channel: { spec }, data: { current } }) => ({ channel: spec.channel, unit: spec.unit ?? "", kind: spec.kind, buckets: current.buckets, steps: current.steps }));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([toCsv(shown, edge, to)], { type: "text/csv" }));
  link.download = `${list.map(({ channel }) => channel.spec.channel.replace("/", "-")).join("+")}.csv`;
  link.click();
  // The browser has taken the data when the click has been handled.
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
