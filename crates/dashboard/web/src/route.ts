// Which view is shown, from what stands behind the `#`.

import { signal } from "@preact/signals";

export type Route =
  | { view: "overview" }
  | { view: "system" }
  | { view: "setup"; token: string }
  /** Several channels, joined by `+`, lie over each other; the first is what the view is of. */
  | { view: "channel"; channel: string; others: string[] };

export function parseRoute(hash: string): Route {
  const [path = "", query] = hash.replace(/^#\/?/, "").split("?");
  if (path === "") return { view: "overview" };
  if (path === "system") return { view: "system" };
  if (path === "setup") return { view: "setup", token: new URLSearchParams(query).get("token") ?? "" };
  const [channel = "", ...others] = path.split("+");
  return { view: "channel", channel, others: [...new Set(others)].filter((other) => other && other !== channel) };
}

export function channelHash(channel: string, others: string[] = []): string {
  return `#/${[channel, ...others].join("+")}`;
}

export const route = signal<Route>(typeof location === "undefined" ? { view: "overview" } : parseRoute(location.hash));

if (typeof addEventListener !== "undefined") {
  addEventListener("hashchange", () => {
    const before = route.peek();
    const next = parseRoute(location.hash);
    route.value = next;
    // Adding a channel to a chart isn't going elsewhere.
    const stays = before.view === "channel" && next.view === "channel" && before.channel === next.channel;
    if (!stays) scrollTo(0, 0);
  });
}
