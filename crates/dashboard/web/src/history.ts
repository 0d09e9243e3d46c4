// What was, from the gateway's store.

import { address, refused } from "./api";
import type { History } from "./wire";

/** Requests at once: a page of sixty charts must not be sixty readers of the store. */
const AT_ONCE = 3;

/** A store busy on a slow card answers late; one that never does must not hold the others up. */
const DEADLINE = 20_000;

let running = 0;
const waiting: (() => void)[] = [];

export interface Query {
  channel: string;
  /** RFC 3339, or a duration before now: `15min`. */
  from: string;
  to?: string;
  /** Reduce to this many buckets. */
  points?: number;
}

export async function load(query: Query, signal: AbortSignal): Promise<History> {
  if (running < AT_ONCE) running += 1;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  try {
    signal.throwIfAborted();
    const url = address("api/v1/readings");
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, String(value));
    const late = AbortSignal.timeout(DEADLINE);
    const either = new AbortController();
    for (const one of [signal, late]) one.addEventListener("abort", () => either.abort(one.reason), { once: true });
    const response = await fetch(url, { signal: either.signal });
    if (!response.ok) throw await refused(response);
    return (await response.json()) as History;
  } finally {
    // Whoever waits takes the place over.
    const next = waiting.shift();
    if (next) next();
    else running -= 1;
  }
}
