// One channel, as far back as is kept, and others over it.

import { useState } from "preact/hooks";
import { channels, type ChannelModel } from "../state";
import { text } from "../text";
import { Acks } from "./acks";
import { saveCsv } from "./csv";
import { Changes, Holes, Numbers } from "./facts";
import { OfChannel } from "./ledger";
import { Legend } from "./legend";
import { Control } from "./output";
import { deviceOf, DeviceState, deviceTitle } from "./overview";
import { Ends, Plot, Timeline } from "./plot";
import { RangePicker } from "./ranges";
import { useTraces, type Range } from "./trace";
import { Age, channelTitle, Value, why } from "./words";

export function ChannelView({ name, others }: { name: string; others: string[] }) {
  const find = (wanted: string) => channels.value.find((channel) => channel.spec.channel === wanted);
  const main = find(name);
  if (main) return <Known channel={main} others={others.map(find).filter((channel) => channel !== undefined)} />;
  return (
    <section class="channel">
      <a class="back" href="#/">
        ‹ {text.back}
      </a>
      <p class="note">{channels.value.length ? text.unknownChannel(name) : text.connecting}</p>
    </section>
  );
}

function Known({ channel, others }: { channel: ChannelModel; others: ChannelModel[] }) {
  const [range, setRange] = useState<Range>({ kind: "live", name: "15min" });
  const shown = [channel, ...others];
  const traces = useTraces(shown, range);
  const device = deviceOf(channel.spec.device);
  const quality = channel.shown.value?.quality ?? "good";
  const placed = traces.list.map((trace, place) => ({ trace, place }));
  const numbers = placed.filter(({ trace }) => trace.channel.spec.kind === "number");
  const bars = placed.filter(({ trace }) => trace.channel.spec.kind !== "number");
  return (
    <section class={`channel ${quality} ${device?.state === "lost" ? "lost" : ""}`} aria-labelledby="channel">
      <a class="back" href="#/">
        ‹ {text.back}
      </a>
      <Head channel={channel} />
      {device && <DeviceState device={device} />}
      <div class="card trace">
        <RangePicker range={range} window={traces.window} pick={setRange} />
        {numbers.length > 0 && <Plot key={numbers.map(({ trace }) => trace.channel.spec.channel).join("+")} traces={traces} numbers={numbers} zoom={setRange} />}
        {bars.map(({ trace, place }) => (
          <div key={trace.channel.spec.channel} class={`bars line-${place}`}>
            {shown.length > 1 && <p class="meta">{channelTitle(trace.channel)}</p>}
            <Timeline traces={traces} trace={trace} />
          </div>
        ))}
        {numbers.length === 0 && <Ends traces={traces} />}
        <Acks {...traces} />
        <div class="below">
          <Legend shown={shown} />
          <button class="csv" type="button" title={text.csvTitle} onClick={() => saveCsv(traces)} disabled={!traces.ready}>
            {text.csv}
          </button>
        </div>
        {traces.error && (
          <p class="note bad">
            {text.historyFailed(traces.error)}{" "}
            <button type="button" onClick={traces.retry}>
              {text.retry}
            </button>
          </p>
        )}
        {numbers.map(({ trace }) => (
          <Numbers key={trace.channel.spec.channel} trace={trace} named={shown.length > 1} window={traces.window} />
        ))}
      </div>
      {bars.map(({ trace }) => (
        <Changes key={trace.channel.spec.channel} trace={trace} named={shown.length > 1} window={traces.window} />
      ))}
      <Holes holes={traces.list[0]!.data.current.gaps} />
      <OfChannel name={channel.spec.channel} />
    </section>
  );
}

function Head({ channel }: { channel: ChannelModel }) {
  const reading = channel.shown.value;
  const quality = reading?.quality ?? "good";
  return (
    <>
      <div class="channel-head">
        <div>
          <h1 id="channel">{channelTitle(channel)}</h1>
          <p class="path">
            {deviceTitle(channel.spec.device)} · <code>{channel.spec.channel}</code>
          </p>
        </div>
        <div class="current">
          <Value channel={channel} reading={reading} />
          <p class="meta">
            {reading ? <Age channel={channel} time={reading.time} /> : text.noReading}
            {reading && (
              <span class={`quality ${quality}`}>
                {quality === "good" ? text.qualityGood : quality === "bad" ? text.qualityBad : text.qualityUncertain}
                {reading.reason ? `: ${why(reading.reason)}` : ""}
              </span>
            )}
          </p>
        </div>
      </div>
      <Control channel={channel} />
    </>
  );
}
