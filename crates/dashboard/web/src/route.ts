// Which view is shown, from what stands behind the `#`.

import { signal } from "@preact/signals";

export type Route = { view: "overview" } | { view: "system" } | { view: "channel"; channel: string };

export function parseRoute(hash: string): Route {
  const path = hash.replace(/^#\/?/, "");
  if (path === "") return { view: "overview" };
  if (path === "system") return { view: "system" };
  return { view: "channel", channel: path };
}

export const route = signal<Route>(parseRoute(location.hash));

addEventListener("hashchange", () => {
  route.value = parseRoute(location.hash);
  scrollTo(0, 0);
});
