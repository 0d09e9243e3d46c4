import { useComputed } from "@preact/signals";
import { title } from "../format";
import { channels, now, OVERVIEW_SPAN, OWN, status, type ChannelModel } from "../state";
import { summary } from "../series";
import { text } from "../text";
import type { Device } from "../wire";
import { Alarms, isAlarm } from "./alarms";
import { Chain } from "./chain";
import { Spark } from "./chart";
import { Switch, WishState } from "./output";
import { Age, at, channelTitle, Pill, Value, valueText, why } from "./words";

export function Overview() {
  const groups = new Map<string, ChannelModel[]>();
  for (const channel of channels.value) {
    // Told above, while there is something to tell.
    if (isAlarm(channel)) continue;
    const { device } = channel.spec;
    const group = groups.get(device);
    if (group) group.push(channel);
    else groups.set(device, [channel]);
  }
  // The own channels come last: they are about us, not about the world.
  const names = [...groups.keys()].sort((a, b) => Number(a === OWN) - Number(b === OWN));
  return (
    <>
      <h1 class="sr">{text.overview}</h1>
      <Alarms />
      <Chain />
      <div class="groups">
        {names.map((name) => (
          <Group key={name} name={name} channels={groups.get(name)!} />
        ))}
      </div>
      {names.length === 0 && status.value && <p class="note">{text.noChannels}</p>}
    </>
  );
}

export function deviceOf(name: string): Device | undefined {
  return status.value?.devices.find((device) => device.name === name);
}

/** What people call a device. */
export function deviceTitle(name: string): string {
  return deviceOf(name)?.label || title(name);
}

function Group({ name, channels: members }: { name: string; channels: ChannelModel[] }) {
  const device = deviceOf(name);
  const lost = device?.state === "lost";
  return (
    <section class={`group n${Math.min(members.length, 4)} ${lost ? "lost" : ""}`} aria-labelledby={`device-${name}`}>
      <div class="group-head">
        <h2 id={`device-${name}`}>{deviceTitle(name)}</h2>
        {device && <span class="driver">{device.driver}</span>}
        {device && <DeviceState device={device} />}
      </div>
      <div class="tiles">
        {members.map((channel) => (
          <Tile key={channel.spec.channel} channel={channel} lost={lost} />
        ))}
      </div>
    </section>
  );
}

/** Silent when all is well: only what isn't needs a word. */
export function DeviceState({ device }: { device: Device }) {
  if (device.state === "ok") return null;
  const lost = device.state === "lost";
  return (
    <span class="device-state">
      <Pill tone={lost ? "bad" : "warn"}>{lost ? text.stateLost : text.stateOpening}</Pill>
      <span class="why">{text.sinceWhy(at(device.since), why(device.error))}</span>
    </span>
  );
}

function Tile({ channel, lost }: { channel: ChannelModel; lost: boolean }) {
  const reading = channel.shown.value;
  const quality = reading?.quality ?? "good";
  const name = channelTitle(channel);
  const id = `channel-${channel.spec.channel.replace("/", "-")}`;
  // The summary for a screen reader need not follow each reading.
  const minute = useComputed(() => Math.floor(now.value / 30_000));
  const bounds = minute.value ? summary(channel.series.buckets, now.peek() - OVERVIEW_SPAN) : null;
  const spoken = bounds ? text.chartFromTo(valueText(channel, bounds.min), valueText(channel, bounds.max)) : "";
  return (
    <article class={`tile ${quality} ${lost ? "lost" : ""} ${reading ? "" : "empty"}`} aria-labelledby={id}>
      <h3 id={id}>
        <a href={`#/${channel.spec.channel}`}>{name}</a>
        {channel.spec.output && <span class="tag">{text.output}</span>}
      </h3>
      <div class="value-row">
        <Value channel={channel} reading={reading} />
        <Switch channel={channel} />
      </div>
      <p class="meta">
        {reading ? <Age channel={channel} time={reading.time} /> : text.noReading}
        {quality !== "good" && (
          <span class={`quality ${quality}`}>
            {quality === "bad" ? text.qualityBad : text.qualityUncertain}
            {reading?.reason ? `: ${why(reading.reason)}` : ""}
          </span>
        )}
      </p>
      <WishState channel={channel} />
      <Spark channel={channel} label={text.chartOf(name, text.lastRange(text.ranges["15min"]!), spoken)} />
    </article>
  );
}
