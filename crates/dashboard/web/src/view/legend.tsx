// Which channels lie over each other: one more, or one fewer.

import { title } from "../format";
import { channelHash } from "../route";
import { channels, type ChannelModel } from "../state";
import { text } from "../text";
import { LINES } from "../theme";
import { channelTitle, valueText } from "./words";

/** As many as there are colours that can be told apart. */
const SHOWN_MAX = LINES.length;

export function Legend({ shown }: { shown: ChannelModel[] }) {
  const [main, ...others] = shown;
  if (!main) return null;
  const names = others.map((channel) => channel.spec.channel);
  const go = (next: string[]) => {
    location.hash = channelHash(main.spec.channel, next);
  };
  const free = channels.value.filter((channel) => !shown.includes(channel));
  const devices = [...new Set(free.map((channel) => channel.spec.device))];
  return (
    <div class="legend">
      {others.length > 0 && (
        <ul>
          {shown.map((channel, place) => (
            <li key={channel.spec.channel}>
              {channel.spec.kind === "number" && <span class={`swatch line-${place}`} aria-hidden="true" />}
              {channelTitle(channel)} <span class="meta">{channel.shown.value && valueText(channel, channel.shown.value.value)}</span>
              {place > 0 && (
                <button type="button" aria-label={text.removeChannel(channelTitle(channel))} onClick={() => go(names.filter((name) => name !== channel.spec.channel))}>
                  ×
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      {shown.length < SHOWN_MAX && free.length > 0 && (
        <select
          aria-label={text.addChannel}
          value=""
          onChange={(event) => {
            const { value } = event.currentTarget;
            event.currentTarget.value = "";
            if (value) go([...names, value]);
          }}
        >
          <option value="">+ {text.addChannel}</option>
          {devices.map((device) => (
            <optgroup key={device} label={title(device)}>
              {free
                .filter((channel) => channel.spec.device === device)
                .map((channel) => (
                  <option key={channel.spec.channel} value={channel.spec.channel}>
                    {channelTitle(channel)}
                  </option>
                ))}
            </optgroup>
          ))}
        </select>
      )}
    </div>
  );
}
