// Small pieces that several views show.

import type { ComponentChildren } from "preact";
import { bytes, clock, number, parseTime, shortSpan, span, title } from "../format";
import { now, type ChannelModel } from "../state";
import { quietAfter } from "../series";
import { language, reason, text } from "../text";
import { isBytes, pretty } from "../units";
import type { Reading } from "../wire";

export type Tone = "good" | "warn" | "bad" | "idle";

/** A state in a word and a colour, and in a shape for those who don't see the colour. */
export function Pill({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return (
    <span class={`pill ${tone}`}>
      <svg class="dot" viewBox="0 0 12 12" aria-hidden="true">
        {tone === "bad" ? <path d="M2.5 2.5l7 7m0-7l-7 7" /> : tone === "warn" ? <path d="M6 1.5v5.5m0 3v.5" /> : <circle cx="6" cy="6" r="4" />}
      </svg>
      {children}
    </span>
  );
}

export function channelTitle(channel: ChannelModel): string {
  return channel.label || title(channel.spec.name);
}

/** A value in two parts: the text, and the unit behind it. */
export function valueParts(channel: ChannelModel, value: Reading["value"]): [string, string] {
  if (value === null) return [text.noValue, ""];
  if (typeof value === "boolean") return [value ? text.on : text.off, ""];
  if (typeof value === "string") return [value, ""];
  // So many seconds are hours to a person.
  if (channel.spec.unit === "s" && Math.abs(value) >= 600) return [span(value * 1000), ""];
  if (isBytes(channel.spec.unit)) return bytes(language, value);
  return [number(language, value, channel.digits), pretty(channel.spec.unit)];
}

export function valueText(channel: ChannelModel, value: Reading["value"]): string {
  const [digits, unit] = valueParts(channel, value);
  return unit ? `${digits} ${unit}` : digits;
}

/** How old a channel's last reading is, ticking; marked when it is unusually old. */
export function Age({ channel, time }: { channel: ChannelModel; time: string }) {
  const at = parseTime(time);
  const age = now.value - at;
  const old = channel.spec.kind === "number" && age > quietAfter(channel.series.buckets);
  return (
    <time class={old ? "old" : undefined} dateTime={time} title={clock(language, at, now.value, true)}>
      {age < 1500 ? text.now : text.ago(shortSpan(age))}
    </time>
  );
}

export function at(time: string, seconds = false): string {
  return clock(language, parseTime(time), now.value, seconds);
}

export function why(error: string | null | undefined): string {
  return reason(error);
}

/** The value large, the unit small behind it. */
export function Value({ channel, reading }: { channel: ChannelModel; reading: Reading | null }) {
  if (!reading) return <span class="value none">–</span>;
  const bad = reading.quality === "bad" || reading.value === null;
  const [digits, unit] = valueParts(channel, bad ? null : reading.value);
  return (
    <span class={`value ${bad ? "none" : channel.spec.kind}`}>
      <span class="digits">{bad ? "–" : digits}</span>
      {unit && <span class="unit"> {unit}</span>}
      {bad && <span class="sr">{text.noValue}</span>}
    </span>
  );
}
