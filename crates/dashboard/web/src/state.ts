// What the page knows. Frames change plain objects as they come; what a person
// sees (signals) follows a few times a second, in one animation frame for all.

import { batch, signal } from "@preact/signals";
import { Marks } from "./acks";
import { Events } from "./events";
import { parseTime, sharedDecimals } from "./format";
import { GatewayClock } from "./gateway-clock";
import { Rate } from "./rates";
import { offBefore, Series, type Bucket, type Hole } from "./series";
import { addStep, toStep, type Step } from "./steps";
import { text } from "./text";
import { decimalsMax } from "./units";
import type { Channel, Forwarder, Frame, Reading, Status } from "./wire";

/** How far back the small charts look. */
export const OVERVIEW_SPAN = 15 * 60_000;

/** The device that the gateway itself is. */
export const OWN = "gateway";

/** Texts and numbers change at most this often, milliseconds: faster is only flicker. */
const REPAINT = 200;

/** A tick is never later than this, milliseconds: a clock has been set. */
const TICK_LATE = 5000;

/** From this many recent values the number of decimals is found. */
const DIGITS_FROM = 24;

/** One channel, with what is drawn of it. */
export class ChannelModel {
  readonly shown = signal<Reading | null>(null);
  readonly series = new Series(OVERVIEW_SPAN);
  steps: Step[] = [];
  /** Grows with each change of `series` or `steps`: charts compare it. */
  version = 0;
  last: Reading | null = null;
  readonly followers = new Set<(reading: Reading, time: number) => void>();
  private recent: number[] = [];

  constructor(public spec: Channel) {}

  get label(): string {
    return this.spec.label || "";
  }

  take(reading: Reading): void {
    const time = parseTime(reading.time);
    // What hello repeats after a reconnection is here already. A new epoch may
    // give the same number to a new reading, so times are compared as well.
    if (this.last && this.last.seq === reading.seq && this.last.time === reading.time) return;
    if (!this.last || parseTime(this.last.time) <= time) this.last = reading;
    const value = reading.quality === "bad" ? null : reading.value;
    if (this.spec.kind === "number") {
      const number = typeof value === "number" ? value : null;
      this.series.add(time, number);
      if (number !== null) {
        this.recent.push(number);
        if (this.recent.length > DIGITS_FROM) this.recent.shift();
      }
    } else {
      addStep(this.steps, toStep(reading));
    }
    this.version += 1;
    for (const follow of this.followers) follow(reading, time);
  }

  /** The gateway's clock was set: what is drawn bears times of before. */
  forget(): void {
    this.last = null;
    this.series.buckets = [];
    this.series.gaps = [];
    this.steps = [];
    this.version += 1;
  }

  /** The gateway went off: from the last reading on nothing is known. */
  interrupt(): void {
    if (!this.last || this.spec.kind === "number") return;
    addStep(this.steps, { time: parseTime(this.last.time), value: null, reason: text.gatewayOff });
  }

  /** Decimals that this channel's values are shown with. */
  get digits(): number {
    return Math.min(sharedDecimals(this.recent), decimalsMax(this.spec.unit));
  }
}

export type Connection = "connecting" | "live" | "lost";

export const connection = signal<Connection>("connecting");
/** On this browser's clock: since when there has been no connection. */
export const lostSince = signal(Date.now());
/** On this browser's clock: when the next attempt is made. */
export const retryAt = signal(0);
export const gateway = signal("");
export const channels = signal<ChannelModel[]>([]);
export const status = signal<Status | null>(null);
export const skipped = signal(0);
/** Grows when history must be read again: at each connection. */
export const generation = signal(0);
/** On the gateway's clock, changing each second. */
export const now = signal(Date.now());

export const gatewayClock = new GatewayClock();
export const marks = new Marks();
export const events = new Events();
export const rates = { read: new Rate(), stored: new Rate(), forwarders: new Map<string, Rate>() };

const models = new Map<string, ChannelModel>();
const dirty = new Set<ChannelModel>();
let epoch = "";
let newStatus: Status | null = null;
/** Whether readings wait for the gateway's clock, as far as the page knows. */
let unset = false;
let painting = false;
let painted = 0;

export function model(name: string): ChannelModel | undefined {
  return models.get(name);
}

/** The time on the gateway's clock, milliseconds. */
export function gatewayNow(): number {
  return gatewayClock.at(Date.now());
}

/** A frame of the feed. */
export function take(frame: Frame): void {
  switch (frame.type) {
    case "hello":
      return hello(frame.gateway, frame.epoch, frame.channels);
    case "readings":
      for (const reading of frame.readings) {
        const channel = models.get(reading.channel);
        if (!channel) continue;
        channel.take(reading);
        dirty.add(channel);
      }
      return repaint();
    case "status":
      return takeStatus(frame);
    case "skipped":
      skipped.value += frame.count;
      // What was skipped is in the store.
      generation.value += 1;
      return;
    case "result":
      // Outputs are written through the API, whose answers say more.
      return;
    case "error":
      console.warn("the gateway says:", frame.error);
  }
}

function hello(name: string, start: string, specs: Channel[]): void {
  // What held before the gateway went off can't be said to hold on.
  if (epoch && epoch !== start) for (const channel of models.values()) channel.interrupt();
  epoch = start;
  const names = new Set(specs.map((spec) => spec.channel));
  for (const old of models.keys()) if (!names.has(old)) models.delete(old);
  const list = specs.map((spec) => {
    let known = models.get(spec.channel);
    if (!known || known.spec.kind !== spec.kind) {
      known = new ChannelModel(spec);
      models.set(spec.channel, known);
    }
    known.spec = spec;
    if (spec.last) known.take(spec.last);
    dirty.add(known);
    return known;
  });
  batch(() => {
    gateway.value = name;
    channels.value = list;
    skipped.value = 0;
    generation.value += 1;
    connection.value = "live";
  });
  repaint();
}

function takeStatus(next: Status): void {
  const time = parseTime(next.time);
  gatewayClock.observe(time, Date.now());
  // Not at the next tick: until then all would look as old as the clocks differ.
  if (Math.abs(gatewayNow() - now.peek()) > TICK_LATE) now.value = gatewayNow();
  rates.read.add(time, next.ledger.read);
  rates.stored.add(time, next.ledger.stored);
  marks.add(next.epoch, time, next.store.committed);
  events.see(next);
  seeLosses(next);
  for (const forwarder of next.forwarders) forwarderRate(forwarder).add(time, forwarder.acknowledged);
  newStatus = next;
  if (unset && next.clock.set && !next.clock.held) {
    // Times are others now, in the store as well: what is drawn begins anew.
    unset = false;
    for (const channel of models.values()) channel.forget();
    generation.value += 1;
  }
  unset ||= !next.clock.set;
  repaint();
}

/** A loss is in the history once its record is stored; charts read it again at most this often, milliseconds. */
const TOLD = 3000;
const LOSSES_EVERY = 30_000;

let lost: number | null = null;
let askedAgain = 0;
let asking = false;

/** What is lost is drawn: the charts and the log ask for the gaps again. */
function seeLosses({ store }: Status): void {
  const sum = (store.losses ?? []).reduce((sum, { count }) => sum + count, 0);
  const more = lost !== null && sum !== lost;
  lost = sum;
  if (!more || asking) return;
  asking = true;
  setTimeout(
    () => {
      asking = false;
      askedAgain = Date.now();
      generation.value += 1;
    },
    Math.max(TOLD, askedAgain + LOSSES_EVERY - Date.now()),
  );
}

export function forwarderRate(forwarder: Forwarder): Rate {
  let rate = rates.forwarders.get(forwarder.name);
  if (!rate) {
    rate = new Rate();
    rates.forwarders.set(forwarder.name, rate);
  }
  return rate;
}

/** Shows what changed, soon. */
function repaint(): void {
  if (painting) return;
  painting = true;
  const wait = Math.max(0, painted + REPAINT - performance.now());
  setTimeout(() => requestAnimationFrame(paint), wait);
}

function paint(time: number): void {
  painting = false;
  painted = time;
  batch(() => {
    for (const channel of dirty) channel.shown.value = channel.last;
    if (newStatus) status.value = newStatus;
  });
  dirty.clear();
  newStatus = null;
}

/** The known gaps, and the time before the present start when the gateway was off. */
export function holes(series: { buckets: Bucket[]; gaps: Hole[]; width: number }): Hole[] {
  const started = status.peek()?.started;
  const off = started && offBefore(parseTime(started), series.buckets, series.width, text.gatewayOff);
  return off ? [...series.gaps, off] : series.gaps;
}

export function startClock(): void {
  const tick = () => {
    now.value = gatewayNow();
  };
  setInterval(tick, 1000);
  // A page that was in the background must not show ages of a while ago.
  document.addEventListener("visibilitychange", () => document.hidden || tick());
}
