// One channel, as far back as is kept.

import { useEffect, useRef, useState } from "preact/hooks";
import { Chart } from "../chart";
import { number, title } from "../format";
import { columns, type Columns, type Hole } from "../series";
import { channels, gatewayNow, now, type ChannelModel } from "../state";
import { language, text } from "../text";
import { clock } from "../format";
import { themeVersion } from "../theme";
import { drawTimeline } from "../timeline";
import { whileVisible } from "../visible";
import { pretty } from "../units";
import { deviceOf, DeviceState } from "./overview";
import { Changes, Holes, Numbers } from "./facts";
import { saveCsv } from "./csv";
import { RANGES, useTrace, type Range, type Trace } from "./trace";
import { Age, channelTitle, Value, why } from "./words";

export function ChannelView({ name }: { name: string }) {
  const known = channels.value.find((channel) => channel.spec.channel === name);
  if (known) return <Known channel={known} />;
  return (
    <section class="channel">
      <a class="back" href="#/">
        ‹ {text.back}
      </a>
      <p class="note">{channels.value.length ? text.unknownChannel(name) : text.connecting}</p>
    </section>
  );
}

function Known({ channel }: { channel: ChannelModel }) {
  const [range, setRange] = useState<Range>({ kind: "live", name: "15min" });
  const trace = useTrace(channel, range);
  const reading = channel.shown.value;
  const device = deviceOf(channel.spec.device);
  const quality = reading?.quality ?? "good";
  return (
    <section class={`channel ${quality} ${device?.state === "lost" ? "lost" : ""}`} aria-labelledby="channel">
      <a class="back" href="#/">
        ‹ {text.back}
      </a>
      <div class="channel-head">
        <div>
          <h1 id="channel">{channelTitle(channel)}</h1>
          <p class="path">
            {title(channel.spec.device)} · <code>{channel.spec.channel}</code>
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
      {device && <DeviceState device={device} />}
      <div class="card trace">
        <RangePicker range={range} pick={setRange} />
        {channel.spec.kind === "number" ? (
          <Plot channel={channel} trace={trace} range={range} zoom={setRange} />
        ) : (
          <Timeline channel={channel} trace={trace} range={range} />
        )}
        <button class="csv" type="button" title={text.csvTitle} onClick={() => saveCsv(channel, trace)} disabled={!trace.ready}>
          {text.csv}
        </button>
        {trace.error && (
          <p class="note bad">
            {text.historyFailed(trace.error)}{" "}
            <button type="button" onClick={trace.retry}>
              {text.retry}
            </button>
          </p>
        )}
        {channel.spec.kind === "number" && <Numbers channel={channel} trace={trace} />}
      </div>
      {channel.spec.kind !== "number" && <Changes channel={channel} trace={trace} />}
      <Holes holes={trace.data.current.gaps} />
    </section>
  );
}

function RangePicker({ range, pick }: { range: Range; pick: (range: Range) => void }) {
  return (
    <div class="ranges" role="group" aria-label={text.range}>
      {RANGES.map((name) => (
        <button
          type="button"
          key={name}
          aria-pressed={range.kind === "live" && range.name === name}
          onClick={() => pick({ kind: "live", name })}
        >
          {text.ranges[name]}
        </button>
      ))}
      {range.kind === "fixed" && (
        <button type="button" class="fixed" aria-pressed="true" onClick={() => pick({ kind: "live", name: range.before })}>
          {text.backToLive}
        </button>
      )}
    </div>
  );
}

/** Less than this is nothing to look at, milliseconds. */
const SPAN_MIN = 10_000;

/** The range after a zoom: not into the future, and not to nothing. */
function zoomed(range: Range, from: number, to: number): Range {
  const end = Math.min(to, gatewayNow());
  const start = Math.min(from, end - SPAN_MIN);
  return { kind: "fixed", from: start, to: end, before: range.kind === "live" ? range.name : range.before };
}

/** A finger can't drag over the chart without a mouse's events. */
const TOUCH = matchMedia("(hover: none)").matches;

interface PlotProps {
  channel: ChannelModel;
  trace: Trace;
  range: Range;
  zoom: (range: Range) => void;
}

function Plot({ channel, trace, range, zoom }: PlotProps) {
  const box = useRef<HTMLDivElement>(null);
  const [point, setPoint] = useState<number | null>(null);
  const shown = useRef<Columns>([[], [], [], []]);
  useEffect(() => {
    const element = box.current!;
    const chart = new Chart(element, {
      full: true,
      onPoint: setPoint,
      onZoom: (from, to) => zoom(zoomed(range, from, to)),
    });
    let drawn = "";
    const stop = whileVisible(element, () => {
      const { from, to } = trace.window();
      const state = `${trace.data.current.version} ${themeVersion} ${element.clientWidth} ${element.clientHeight} ${Math.round(to / 250)}`;
      if (state === drawn) return;
      drawn = state;
      const { buckets, gaps } = trace.data.current;
      shown.current = columns(buckets, gaps);
      chart.resize();
      chart.show({ columns: shown.current, holes: gaps, from, to });
    });
    return () => {
      stop();
      chart.destroy();
    };
  }, [channel, range]);
  return (
    <>
      <div ref={box} class="plot" role="img" aria-label={trace.spoken()} />
      <p class="readout" aria-hidden="true">
        {point === null ? <span class="hint">{trace.ready ? (TOUCH ? text.touchHint : text.dragHint) : text.loading}</span> : <PointText channel={channel} columns={shown.current} at={point} gaps={trace.data.current.gaps} />}
      </p>
    </>
  );
}

function PointText({ channel, columns: [times, mins, maxs, means], at, gaps }: { channel: ChannelModel; columns: Columns; at: number; gaps: Hole[] }) {
  const time = (times[at] ?? 0) * 1000;
  const mean = means[at];
  const low = mins[at];
  const high = maxs[at];
  const text1 = (value: number) => number(language, value, channel.digits);
  const unit = pretty(channel.spec.unit);
  const hole = gaps.find((gap) => gap.from <= time && time <= gap.to);
  return (
    <>
      <time>{clock(language, time, now.value, true)}</time>{" "}
      {mean == null || low == null || high == null ? (
        <span>{hole ? why(hole.reason) : text.noValue}</span>
      ) : (
        <>
          <strong>
            {text1(mean)} {unit}
          </strong>
          {low !== high && ` (${text1(low)} – ${text1(high)})`}
        </>
      )}
    </>
  );
}

function Timeline({ channel, trace, range }: { channel: ChannelModel; trace: Trace; range: Range }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(
    () =>
      whileVisible(canvas.current!, () => {
        const { from, to } = trace.window();
        drawTimeline(canvas.current!, trace.data.current.steps, from, to);
      }),
    [channel, range],
  );
  const { from, to } = trace.window();
  return (
    <>
      <canvas ref={canvas} class="timeline" role="img" aria-label={trace.spoken()} />
      <p class="ends">
        <time>{clock(language, from, now.value)}</time>
        <time>{clock(language, to, now.value)}</time>
      </p>
    </>
  );
}

