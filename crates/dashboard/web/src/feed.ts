// The one WebSocket: connects, notices silence, and connects again.

import { batch } from "@preact/signals";
import { address } from "./api";
import { refresh, session } from "./session";
import { connection, lostSince, retryAt, take } from "./state";
import type { Frame } from "./wire";

/** The waits between attempts, milliseconds: the first short, for a blink of the network. */
const BACKOFF = [500, 1000, 2000, 4000, 8000];

/**
 * A connection that says nothing for this long is asked whether it still is
 * one: with the answer's deadline the banner shows within three seconds.
 */
const SILENCE = 1300;
const ANSWER = 1100;

/** An upgrade that takes longer has failed. */
const OPENING = 8000;

let socket: WebSocket | null = null;
let attempts = 0;
let heard = 0;
let asking = false;
let timer: ReturnType<typeof setTimeout> | undefined;

export function connect(): void {
  const url = address("api/v1/live");
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  clearTimeout(timer);
  const mine = new WebSocket(url, "tidemill.v1");
  socket = mine;
  const opening = setTimeout(() => drop(mine), OPENING);
  mine.onopen = () => {
    clearTimeout(opening);
    heard = performance.now();
  };
  mine.onmessage = (event: MessageEvent<string>) => {
    heard = performance.now();
    const frame = parse(event.data);
    if (!frame) return;
    if (frame.type === "hello") {
      attempts = 0;
      void refresh();
    }
    take(frame);
  };
  mine.onclose = () => {
    clearTimeout(opening);
    drop(mine);
  };
}

function parse(data: string): Frame | null {
  try {
    return JSON.parse(data) as Frame;
  } catch {
    console.warn("not a frame:", data.slice(0, 100));
    return null;
  }
}

/** Gives a connection up and plans the next. */
function drop(mine: WebSocket): void {
  if (socket !== mine) return;
  socket = null;
  mine.onclose = mine.onmessage = null;
  mine.close();
  const wait = BACKOFF[Math.min(attempts, BACKOFF.length - 1)]! * (0.75 + Math.random() / 2);
  attempts += 1;
  batch(() => {
    if (connection.value === "live") lostSince.value = Date.now();
    if (connection.value === "live" || attempts > 1) connection.value = "lost";
    retryAt.value = Date.now() + wait;
  });
  timer = setTimeout(connect, wait);
  // A browser isn't told why an upgrade was refused: perhaps we may no longer look.
  void refresh();
}

/** Tries at once: a person asked, or the network came back. */
export function retryNow(): void {
  if (socket) return;
  attempts = 0;
  connect();
}

/** Whether a silent connection is still one. A browser can't send a ping. */
async function ask(): Promise<void> {
  const mine = socket;
  if (!mine || mine.readyState !== WebSocket.OPEN || asking) return;
  asking = true;
  const before = heard;
  try {
    await fetch(address("healthz"), { cache: "no-store", signal: AbortSignal.timeout(ANSWER) });
    // Not ready is an answer too.
    heard = Math.max(heard, performance.now());
  } catch {
    if (heard === before) drop(mine);
  } finally {
    asking = false;
  }
}

export function start(): void {
  connect();
  // Whoever has just been let in needn't wait for the next attempt.
  session.subscribe((known) => known?.look && retryNow());
  setInterval(() => performance.now() - heard > SILENCE && void ask(), 250);
  addEventListener("online", retryNow);
  addEventListener("offline", () => void ask());
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    retryNow();
    void ask();
  });
  // A page kept for the back button: its socket was closed without a word.
  addEventListener("pageshow", (event) => event.persisted && retryNow());
}
