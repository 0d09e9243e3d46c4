// The chart of the numbers, and the bars of everything else.

import { useEffect, useRef, useState } from "preact/hooks";
import { Chart, type Line } from "../chart";
import { clock } from "../format";
import { columns, indexAt, type Columns, type Hole } from "../series";
import { now, type ChannelModel } from "../state";
import { language, text } from "../text";
import { LINES, theme, themeVersion } from "../theme";
import { drawTimeline } from "../timeline";
import { whileVisible } from "../visible";
import { zoomed } from "./ranges";
import { spoken, type Range, type Trace, type Traces } from "./trace";
import { channelTitle, valueText, why } from "./words";

/** A finger can't drag over the chart without a mouse's events. */
const TOUCH = matchMedia("(hover: none)").matches;

/** The colour of the channel at a place among those shown. */
function lineOf(place: number, unit: string): Line {
  const colour = () => theme()[LINES[place % LINES.length]!];
  // Bands in the colour of their line, faint: `#rrggbb` with an opacity behind it.
  return { colour, band: () => (place === 0 ? theme().band : `${colour()}2a`), unit };
}

/** The same hole in two channels is drawn once. */
function allHoles(traces: Trace[]): Hole[] {
  const known = new Map(traces.flatMap((trace) => trace.data.current.gaps).map((hole) => [`${hole.from} ${hole.to} ${hole.reason}`, hole]));
  return [...known.values()];
}

interface PlotProps {
  traces: Traces;
  /** Those with numbers, and the place of each among all that is shown. */
  numbers: { trace: Trace; place: number }[];
  zoom: (range: Range) => void;
}

export function Plot({ traces, numbers, zoom }: PlotProps) {
  const box = useRef<HTMLDivElement>(null);
  const [point, setPoint] = useState<number | null>(null);
  const shown = useRef<Columns[]>([]);
  const list = numbers.map(({ trace }) => trace);
  useEffect(() => {
    const element = box.current!;
    const chart = new Chart(element, {
      full: true,
      lines: numbers.map(({ trace, place }) => lineOf(place, trace.channel.spec.unit ?? "")),
      onPoint: setPoint,
      onZoom: (from, to) => zoom(zoomed(traces.range, from, to)),
    });
    let drawn = "";
    const stop = whileVisible(element, () => {
      const { from, to } = traces.window();
      const state = `${list.map((trace) => trace.data.current.version)} ${themeVersion} ${element.clientWidth} ${element.clientHeight} ${Math.round(to / 250)}`;
      if (state === drawn) return;
      drawn = state;
      shown.current = list.map(({ data: { current } }) => columns(current.buckets, current.gaps));
      chart.resize();
      chart.show({ columns: shown.current, holes: allHoles(list), from, to });
    });
    return () => {
      stop();
      chart.destroy();
    };
  }, list);
  const hint = traces.ready ? (TOUCH ? text.touchHint : text.dragHint) : text.loading;
  return (
    <>
      <div ref={box} class="plot" role="img" aria-label={spoken(traces, list)} />
      <p class="readout" aria-hidden="true">
        {point === null ? (
          <span class="hint">{hint}</span>
        ) : (
          <>
            <time>{clock(language, point, now.value, true)}</time>{" "}
            {list.map((trace, i) => (
              <PointText key={trace.channel.spec.channel} channel={trace.channel} named={list.length > 1} columns={shown.current[i]} time={point} gaps={trace.data.current.gaps} />
            ))}
          </>
        )}
      </p>
    </>
  );
}

interface PointProps {
  channel: ChannelModel;
  named: boolean;
  columns: Columns | undefined;
  time: number;
  gaps: Hole[];
}

function PointText({ channel, named, columns, time, gaps }: PointProps) {
  const [times, mins, maxs, means] = columns ?? [[], [], [], []];
  const at = indexAt(times, time / 1000);
  const [low, high, mean] = [mins[at], maxs[at], means[at]];
  const hole = gaps.find((gap) => gap.from <= time && time <= gap.to);
  return (
    <span class="point">
      {named && `${channelTitle(channel)} `}
      {mean == null || low == null || high == null ? (
        hole ? why(hole.reason) : text.noValue
      ) : (
        <>
          <strong>{valueText(channel, mean)}</strong>
          {low !== high && ` (${valueText(channel, low)} – ${valueText(channel, high)})`}
        </>
      )}{" "}
    </span>
  );
}

export function Timeline({ traces, trace }: { traces: Traces; trace: Trace }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(
    () =>
      whileVisible(canvas.current!, () => {
        const { from, to } = traces.window();
        drawTimeline(canvas.current!, trace.data.current.steps, from, to);
      }),
    // The window belongs to all that is shown.
    [trace, traces.list.length],
  );
  return <canvas ref={canvas} class="timeline" role="img" aria-label={spoken(traces, [trace])} />;
}

/** When the bars begin and end, where no chart tells. */
export function Ends({ traces }: { traces: Traces }) {
  const { from, to } = traces.window();
  void now.value;
  return (
    <p class="ends">
      <time>{clock(language, from, now.value)}</time>
      <time>{clock(language, to, now.value)}</time>
    </p>
  );
}
