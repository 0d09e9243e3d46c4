// What switches an output: for those who are logged in.

import { useState } from "preact/hooks";
import { asking, session } from "../session";
import type { ChannelModel } from "../state";
import { text } from "../text";
import { pretty } from "../units";
import type { Datum } from "../wire";
import { wishesOf } from "../wish";
import { channelTitle, valueText } from "./words";

/** Whether this browser may switch this channel. */
function mayWrite(channel: ChannelModel): boolean {
  return Boolean(channel.spec.output && session.value?.write);
}

/** The value as read back, as a switch to press. */
export function Switch({ channel }: { channel: ChannelModel }) {
  if (channel.spec.kind !== "boolean" || !mayWrite(channel)) return null;
  const wishes = wishesOf(channel);
  const wish = wishes.pending.value;
  const on = channel.shown.value?.value === true;
  return (
    <button
      type="button"
      role="switch"
      class={`switch ${wish ? "pending" : ""}`}
      aria-checked={on}
      aria-busy={wish !== null}
      aria-label={channelTitle(channel)}
      disabled={wish !== null}
      onClick={() => void wishes.wish(!on)}
    >
      <span />
    </button>
  );
}

/** What became of the last wish, while it isn't what is shown. */
export function WishState({ channel }: { channel: ChannelModel }) {
  if (!channel.spec.output) return null;
  const wishes = wishesOf(channel);
  const wish = wishes.pending.value;
  const error = wishes.error.value;
  return (
    <p class={`wish ${error ? "trouble" : ""}`} role="status">
      {wish ? (wish.taken ? text.waitingFor(valueText(channel, wish.value)) : text.switching(valueText(channel, wish.value))) : error}
    </p>
  );
}

/** In the channel's own view: the switch, a field for a number or a text, or how to get them. */
export function Control({ channel }: { channel: ChannelModel }) {
  const [typed, setTyped] = useState("");
  if (!channel.spec.output || !session.value) return null;
  if (!mayWrite(channel)) {
    return (
      <div class="control">
        <button type="button" onClick={() => (asking.value = true)}>
          {text.logInToSwitch}
        </button>
      </div>
    );
  }
  const wishes = wishesOf(channel);
  const { kind, unit } = channel.spec;
  if (kind === "boolean") {
    return (
      <div class="control">
        <Switch channel={channel} />
        <WishState channel={channel} />
      </div>
    );
  }
  // A comma is what half of Europe types.
  const value: Datum = kind === "number" ? Number(typed.trim().replace(",", ".")) : typed;
  const good = kind === "number" ? typed.trim() !== "" && Number.isFinite(value) : true;
  const submit = (event: Event) => {
    event.preventDefault();
    if (good) void wishes.wish(value);
  };
  return (
    <form class="control" onSubmit={submit}>
      <label for="wish">{text.newValue}</label>
      <input id="wish" type="text" inputMode={kind === "number" ? "decimal" : "text"} autocomplete="off" value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />
      {kind === "number" && unit && <span class="unit">{pretty(unit)}</span>}
      <button type="submit" class="main" disabled={!good || wishes.pending.value !== null}>
        {text.set}
      </button>
      <WishState channel={channel} />
    </form>
  );
}
