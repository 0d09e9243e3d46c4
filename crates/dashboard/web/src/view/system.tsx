// The gateway itself: its store, its ledger, its devices and links.

import { bytes, count, span } from "../format";
import { gatewayClock, now, status } from "../state";
import { language, text } from "../text";
import type { Device, Forwarder, Status } from "../wire";
import { Account } from "./account";
import { Card, Facts } from "./card";
import { brokerWords } from "./chain";
import { Configured } from "./configured";
import { Ledger } from "./ledger";
import { Log } from "./log";
import { at, Pill, why } from "./words";

/** A browser's clock this far from the gateway's is worth a word, milliseconds. */
const CLOCKS_DIFFER = 5000;

export function System() {
  const known = status.value;
  return (
    <>
      <h1>{text.system}</h1>
      {known ? (
        <div class="columns">
          <About status={known} />
          <StoreCard status={known} />
          <Ledger status={known} />
          <Devices devices={known.devices} />
          <Forwarders forwarders={known.forwarders} />
          <Log />
          <Configured />
          <Account />
        </div>
      ) : (
        <p class="note">{text.connecting}</p>
      )}
    </>
  );
}

const n = (value: number): string => count(language, value);
const size = (value: number): string => bytes(language, value).join(" ");

function About({ status: { gateway, version, epoch, started, clock } }: { status: Status }) {
  const { ahead } = gatewayClock;
  let words = clock.synchronized ? text.clockSynchronised : clock.set ? text.clockSet : text.clockUnset;
  if (Math.abs(ahead) > CLOCKS_DIFFER) {
    words += `; ${ahead > 0 ? text.clockAhead(span(ahead)) : text.clockBehind(span(-ahead))}`;
  }
  return (
    <Card id="about" title={text.gateway}>
      <Facts
        facts={[
          [text.name, gateway],
          [text.version, version],
          [text.epoch, <code>{epoch}</code>],
          [text.started, `${at(started)} (${text.up(span(now.value - Date.parse(started)))})`],
          [text.clock, words],
        ]}
      />
    </Card>
  );
}

/** What storing costs the card, and how long a card bears it. */
function wear({ store: { wear } }: Status): [string, string][] {
  if (!wear) return [];
  const { bytes_per_day, bytes_per_reading, endurance, endurance_assumed, life_years } = wear;
  const years = life_years > 100 ? "> 100" : life_years < 2 ? life_years.toFixed(1) : life_years.toFixed(0);
  const life = text.cardYears(years);
  return [
    [text.wear, `${text.perDay(size(bytes_per_day))}, ${text.perReading(size(bytes_per_reading))}`],
    [text.cardLife, (endurance_assumed ? text.cardAssumed : text.cardStated)(life, size(endurance))],
  ];
}

function StoreCard({ status }: { status: Status }) {
  const { store } = status;
  return (
    <Card id="store" title={text.store}>
      {store.error && <p class="note bad">{text.storeError(why(store.error))}</p>}
      <Facts
        facts={[
          [text.size, text.storing(size(store.size), size(store.max_size))],
          [text.readingsHeld, n(store.readings)],
          [text.oldest, store.oldest ? at(store.oldest) : "–"],
          [text.queued, n(store.queued)],
          [text.written, size(store.bytes_written)],
          ...wear(status),
          [text.file, <code>{store.path}</code>],
        ]}
      />
    </Card>
  );
}

function Devices({ devices }: { devices: Device[] }) {
  return (
    <Card id="devices" title={text.devices} wide>
      <ul class="rows">
        {devices.map((device) => (
          <li key={device.name}>
            <div>
              <strong>{device.label || device.name}</strong> {device.label && <code>{device.name}</code>} <span class="driver">{device.driver}</span>
            </div>
            <div>
              <Pill tone={device.state === "ok" ? "good" : device.state === "lost" ? "bad" : "warn"}>
                {device.state === "ok" ? text.stateOk : device.state === "lost" ? text.stateLost : text.stateOpening}
              </Pill>{" "}
              <span class="meta">{text.sinceWhy(at(device.since), why(device.error))}</span>
            </div>
            <div class="meta">
              {n(device.readings)} {text.readings}
              {device.bad > 0 && `, ${n(device.bad)} ${text.badReadings}`}
            </div>
          </li>
        ))}
        {devices.length === 0 && <li>{text.noDevices}</li>}
      </ul>
    </Card>
  );
}

function Forwarders({ forwarders }: { forwarders: Forwarder[] }) {
  return (
    <Card id="forwarders" title={text.forwarders} wide>
      <ul class="rows">
        {forwarders.map((one) => {
          const { tone, word, line } = brokerWords(one);
          return (
            <li key={one.name}>
              <div>
                <strong>{one.name}</strong> <code>{one.url}</code>
              </div>
              <div>
                <Pill tone={tone}>{word}</Pill> <span class="meta">{line}</span>
              </div>
              <div class="meta">
                {text.inFlight}: {n(one.in_flight)}
              </div>
            </li>
          );
        })}
        {forwarders.length === 0 && <li>{text.noForwarders}</li>}
      </ul>
    </Card>
  );
}
