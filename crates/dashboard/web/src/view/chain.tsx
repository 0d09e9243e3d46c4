// Sensors → store → each broker: how much flows, what waits, and why.

import type { ComponentChildren } from "preact";
import { bytes, count, rate, shortSpan } from "../format";
import { forwarderRate, OWN, rates, status } from "../state";
import { language, text } from "../text";
import type { Forwarder, Status } from "../wire";
import { at, Pill, why, type Tone } from "./words";

/** More than this behind, and a broker is catching up rather than up to date. */
const BEHIND = 3;

/** A gateway with forty devices must still fit on one screen; the lost ones are named anyhow. */
const CHIPS_MAX = 12;

export function Chain() {
  const known = status.value;
  return (
    <section class="chain" aria-labelledby="chain">
      <h2 id="chain">{text.chain}</h2>
      {known ? (
        <ol class={known.forwarders.length > 1 ? "many" : ""}>
          <Sensors status={known} />
          <Store status={known} />
          <li class="brokers">
            <ol>
              {known.forwarders.map((forwarder) => (
                <Broker key={forwarder.name} forwarder={forwarder} gateway={known.gateway} />
              ))}
              {known.forwarders.length === 0 && <Node tone="idle" icon={<CloudIcon />} name={text.broker} word="–" line={text.noForwarders} />}
            </ol>
          </li>
        </ol>
      ) : (
        <p class="waiting">{text.connecting}</p>
      )}
    </section>
  );
}

interface NodeProps {
  tone: Tone;
  icon: ComponentChildren;
  name: string;
  word: string;
  /** Readings a second; undefined where nothing flows. */
  flow?: number | null;
  line: string;
  more?: ComponentChildren;
}

function Node({ tone, icon, name, word, flow, line, more }: NodeProps) {
  return (
    <li class={`node ${tone}`}>
      <div class="head">
        <span class="icon">{icon}</span>
        <h3>{name}</h3>
        <Pill tone={tone}>{word}</Pill>
      </div>
      {flow !== undefined && (
        <p class="flow">
          {flow === null ? (
            <span class="unit">{text.measuring}</span>
          ) : (
            <>
              <span class="digits">{rate(language, flow)}</span> <span class="unit">{text.readingsPerSecond}</span>
            </>
          )}
        </p>
      )}
      <p class="line">{line}</p>
      {more}
    </li>
  );
}

function Sensors({ status }: { status: Status }) {
  // The gateway watches itself as a device, but isn't a sensor.
  const devices = status.devices.filter((device) => device.name !== OWN);
  const lost = devices.filter((device) => device.state === "lost");
  const opening = devices.filter((device) => device.state === "opening");
  const [first] = lost;
  let line = text.devicesFine(devices.length);
  if (devices.length === 0) line = text.noDevices;
  else if (lost.length === 1 && first) line = text.deviceLost(first.label || first.name, at(first.since), why(first.error));
  else if (first) line = `${text.devicesLost(lost.length, devices.length)}: ${lost.map((device) => device.label || device.name).join(", ")}`;
  else if (opening.length) line = text.devicesOpening(opening.length);
  const tone: Tone = first ? "bad" : opening.length ? "warn" : devices.length ? "good" : "idle";
  const word = `${devices.length - lost.length - opening.length} / ${devices.length}`;
  const more = devices.length > 1 && (
    <ul class="chips">
      {devices.slice(0, CHIPS_MAX).map((device) => (
        <li key={device.name} class={device.state}>
          {device.label || device.name}
        </li>
      ))}
      {devices.length > CHIPS_MAX && <li>+{devices.length - CHIPS_MAX}</li>}
    </ul>
  );
  return <Node tone={tone} icon={<SensorIcon />} name={text.sensors} word={word} flow={rates.read.perSecond} line={line} more={more} />;
}

function Store({ status: { store, ledger } }: { status: Status }) {
  const used = store.max_size ? store.size / store.max_size : 0;
  const line = store.error
    ? text.storeError(why(store.error))
    : text.storing(bytes(language, store.size).join(" "), bytes(language, store.max_size).join(" "));
  const tone: Tone = store.error ? "bad" : ledger.dropped > 0 ? "warn" : "good";
  const percent = `${used > 0 && used < 0.01 ? "< 1" : Math.round(used * 100)} %`;
  const more = (
    <>
      <meter class="fill" min={0} max={1} value={used} high={0.95} aria-label={line}>
        {percent}
      </meter>
      <p class="meta">
        {store.oldest
          ? text.heldSince(count(language, store.readings), at(store.oldest))
          : `${count(language, store.readings)} ${text.readings}`}
      </p>
      {ledger.dropped > 0 && <p class="loss">{text.notStored(count(language, ledger.dropped))}</p>}
    </>
  );
  return <Node tone={tone} icon={<StoreIcon />} name={text.store} word={percent} flow={rates.stored.perSecond} line={line} more={more} />;
}

/** What a broker's state is, in words. */
export function brokerWords(forwarder: Forwarder): { tone: Tone; word: string; line: string } {
  const { state, name, pending } = forwarder;
  const waiting = count(language, pending);
  const since = at(forwarder.since);
  if (state === "offline") return { tone: "bad", word: text.offline, line: text.buffered(waiting, name, since, why(forwarder.error)) };
  if (state === "connecting") return { tone: "warn", word: text.connecting, line: text.bufferedConnecting(waiting, name, since) };
  const sent = forwarderRate(forwarder).perSecond ?? 0;
  const produced = rates.stored.perSecond ?? 0;
  // A second's worth of readings is always on its way.
  if (pending <= Math.max(BEHIND, forwarder.in_flight, 2 * produced)) {
    return { tone: "good", word: text.online, line: `${text.upToDate}, ${text.onlineSince(since)}` };
  }
  const eta = sent - produced > 0.5 ? shortSpan((pending / (sent - produced)) * 1000) : "";
  return { tone: "warn", word: text.online, line: text.catchingUp(waiting, eta) };
}

/** Whether a URL leads back to this machine. */
function isLoopback(url: string): boolean {
  return /^\w+:\/\/(?:[^@/]*@)?(?:127\.\d+\.\d+\.\d+|localhost|\[::1\])(?::|\/|$)/.test(url);
}

function Broker({ forwarder, gateway }: { forwarder: Forwarder; gateway: string }) {
  const { tone, word, line } = brokerWords(forwarder);
  const demo = gateway === "demo" && isLoopback(forwarder.url);
  const more = (
    <>
      <p class="url">{forwarder.url}</p>
      {demo && <p class="demo">{text.demoNote}</p>}
      {forwarder.dropped > 0 && <p class="loss">{text.forwarderDropped(count(language, forwarder.dropped))}</p>}
    </>
  );
  const flow = forwarder.state === "online" ? forwarderRate(forwarder).perSecond : 0;
  return <Node tone={tone} icon={<CloudIcon />} name={forwarder.name} word={word} flow={flow} line={line} more={more} />;
}

function SensorIcon() {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <circle cx="12" cy="12" r="2.5" />
      <path d="M7.8 16.2a6 6 0 0 1 0-8.4M16.2 7.8a6 6 0 0 1 0 8.4M4.9 19.1a10 10 0 0 1 0-14.2M19.1 4.9a10 10 0 0 1 0 14.2" />
    </svg>
  );
}

function StoreIcon() {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <ellipse cx="12" cy="5.5" rx="8" ry="3" />
      <path d="M4 5.5v13c0 1.7 3.6 3 8 3s8-1.3 8-3v-13M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3" />
    </svg>
  );
}

function CloudIcon() {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <path d="M7 18.5a4.5 4.5 0 0 1-.5-9 6 6 0 0 1 11.4 1.6 3.8 3.8 0 0 1-.4 7.4z" />
    </svg>
  );
}
