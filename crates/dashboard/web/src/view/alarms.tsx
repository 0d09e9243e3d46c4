// What somebody has to be told: the alarms that are raised, above all else.

import { channels, type ChannelModel } from "../state";
import { text } from "../text";
import { at, channelTitle } from "./words";

const ALARM = "/alarm";

/** Whether a channel tells the alarms of another: device/channel/alarm. */
export function isAlarm(channel: ChannelModel): boolean {
  return channel.spec.channel.split("/").length === 3 && channel.spec.channel.endsWith(ALARM);
}

export function Alarms() {
  const raised = channels.value.filter((channel) => isAlarm(channel) && channel.shown.value?.value);
  return (
    <ul class="alarms" role="alert" aria-label={text.alarms} hidden={raised.length === 0}>
      {raised.map((channel) => (
        <li key={channel.spec.channel} class="note bad">
          <a href={`#/${channel.spec.channel.slice(0, -ALARM.length)}`}>{channelTitle(channel)}</a>: <strong>{String(channel.shown.value?.value)}</strong>{" "}
          <span class="meta">{text.alarmSince(at(channel.shown.value?.time ?? ""))}</span>
        </li>
      ))}
    </ul>
  );
}
