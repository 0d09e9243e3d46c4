// Exactly what the chart shows, as CSV.

import type { ChannelModel } from "../state";
import { toCsv } from "../csv";
import type { Trace } from "./trace";

export function saveCsv(channel: ChannelModel, trace: Trace): void {
  const { from, to } = trace.window();
  const { buckets, steps } = trace.data.current;
  const csv = toCsv(channel.spec.kind, buckets, steps, from, to);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
  link.download = `${channel.spec.channel.replace("/", "-")}.csv`;
  link.click();
  // The browser has taken the data when the click has been handled.
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
