// The log of events.

import { useEffect, useState } from "preact/hooks";
import { ask, words } from "../api";
import { badSpans, deviceEvents, gapEvents, linkEvents, type Event } from "../events";
import { count, span } from "../format";
import { load } from "../history";
import { BUCKETS_MAX, fromWire } from "../series";
import { channels, connection, events, generation, OWN, status } from "../state";
import { language, text } from "../text";
import type { Gap } from "../wire";
import { Card } from "./card";
import { deviceTitle } from "./overview";
import { at, why } from "./words";

/** How far back the history is searched: a day, in buckets of a few minutes. */
const BACK = "24h";
const WIDTH = 86_400_000 / BUCKETS_MAX;

/** Outages of one device that are looked into, and devices: each is a query. */
const OUTAGES_MAX = 5;
const DEVICES_MAX = 20;

/** Events listed at first. */
const LISTED = 15;

const LINK = "gateway/link_";

/** Reads what happened before the page was opened. */
async function search(signal: AbortSignal): Promise<void> {
  const { gaps } = await ask<{ gaps: Gap[] }>("GET", `gaps?from=${BACK}`);
  events.gaps(gapEvents(gaps));
  for (const { spec } of channels.peek()) {
    if (!spec.channel.startsWith(LINK)) continue;
    const history = await load({ channel: spec.channel, from: BACK }, signal);
    events.add(linkEvents(spec.channel.slice(LINK.length), history.readings ?? []));
  }
  const devices = (status.peek()?.devices ?? []).filter((device) => device.name !== OWN);
  for (const device of devices.slice(0, DEVICES_MAX)) {
    const first = channels.peek().find((channel) => channel.spec.device === device.name);
    if (!first) continue;
    const { channel, kind } = first.spec;
    const reduced = await load({ channel, from: BACK, points: BUCKETS_MAX }, signal);
    // Texts have no buckets; whatever they had is in the gateway's log.
    if (kind === "text") continue;
    const spans = badSpans(fromWire(reduced.buckets ?? []), WIDTH, OUTAGES_MAX);
    for (const [from, to] of spans) {
      const history = await load({ channel, from: new Date(from - WIDTH).toISOString(), to: new Date(to).toISOString() }, signal);
      events.add(deviceEvents(device.name, history.readings ?? []));
    }
  }
}

function sentence({ kind, of, reason, count: n, time, to }: Event): string {
  switch (kind) {
    case "lost":
      return text.eventLost(deviceTitle(of), why(reason));
    case "back":
      return text.eventBack(deviceTitle(of));
    case "offline":
      return text.eventOffline(of, why(reason));
    case "online":
      return text.eventOnline(of);
    case "gap":
      return text.eventGap(count(language, n ?? 0), span((to ?? time) - time), why(reason), of);
    case "start":
      return text.eventStart;
    case "storeError":
      return text.storeError(why(reason));
    case "storeOk":
      return text.eventStoreOk;
  }
}

const TONES: Record<Event["kind"], string> = { lost: "bad", offline: "bad", gap: "warn", storeError: "bad", back: "good", online: "good", storeOk: "good", start: "idle" };

export function Log() {
  const [failed, setFailed] = useState<string | null>(null);
  const [all, setAll] = useState(false);
  const wanted = generation.value;
  const ready = status.value !== null && channels.value.length > 0;
  useEffect(() => {
    if (!ready || connection.peek() !== "live") return;
    const stop = new AbortController();
    setFailed(null);
    search(stop.signal).catch((failure: unknown) => {
      if (!stop.signal.aborted) setFailed(words(failure));
    });
    return () => stop.abort();
  }, [wanted, ready]);
  const list = events.list.value;
  return (
    <Card id="log" title={text.log} wide>
      {failed && <p class="note bad">{text.historyFailed(failed)}</p>}
      <ol class="log">
        {list.slice(0, all ? undefined : LISTED).map((event) => (
          <li key={`${event.time} ${event.kind} ${event.of}`} class={TONES[event.kind]}>
            <time>{at(new Date(event.time).toISOString(), true)}</time> <span>{sentence(event)}</span>
          </li>
        ))}
        {list.length === 0 && <li>{text.logEmpty}</li>}
      </ol>
      {list.length > LISTED && !all && (
        <button type="button" onClick={() => setAll(true)}>
          {text.showAll(count(language, list.length))}
        </button>
      )}
      <p class="meta">{text.logNote}</p>
    </Card>
  );
}
