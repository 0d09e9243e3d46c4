// The charts as components: they draw while they are on the screen, and read
// the history when they first are and at each connection.

import { useEffect, useRef } from "preact/hooks";
import { effect } from "@preact/signals";
import { Chart } from "../chart";
import { load } from "../history";
import { coarsen, columns, fromWire, holesFromWire, leftEdge, BUCKETS_MAX } from "../series";
import { connection, gatewayNow, generation, holes, OVERVIEW_SPAN, type ChannelModel } from "../state";
import { joinSteps } from "../steps";
import { text } from "../text";
import { theme, themeVersion } from "../theme";
import { drawTimeline } from "../timeline";
import { whileVisible } from "../visible";

/** A small chart has a point for this many pixels: the shape shows, the noise becomes a band. */
const PIXELS = 3;

/** Reads the small chart's history. */
async function fill(channel: ChannelModel, signal: AbortSignal): Promise<void> {
  const { channel: name, kind } = channel.spec;
  if (kind === "number") {
    const history = await load({ channel: name, from: "15min", points: BUCKETS_MAX }, signal);
    channel.series.merge(fromWire(history.buckets ?? []), holesFromWire(history.gaps));
  } else {
    const history = await load({ channel: name, from: "15min" }, signal);
    channel.steps = joinSteps(history.readings ?? [], channel.steps, text.gatewayOff);
  }
  channel.version += 1;
}

/** The last 15 minutes, small. */
export function Spark({ channel, label }: { channel: ChannelModel; label: string }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = box.current!;
    const isNumber = channel.spec.kind === "number";
    const canvas = isNumber ? null : element.appendChild(document.createElement("canvas"));
    const chart = isNumber ? new Chart(element, { full: false, lines: [{ colour: () => theme().accent, band: () => theme().band, unit: "" }] }) : null;
    const stop = new AbortController();
    let filled = -1;
    let seen = false;
    const read = () => {
      if (!seen || filled === generation.peek() || connection.peek() !== "live") return;
      const wanted = (filled = generation.peek());
      fill(channel, stop.signal).catch(() => {
        // The next connection tries again; what comes live is drawn anyhow.
        if (filled === wanted) filled = -1;
      });
    };
    let drawn = "";
    let moved = 0;
    let from = gatewayNow() - OVERVIEW_SPAN;
    const perPixel = () => (gatewayNow() - from) / (element.clientWidth || 300);
    const stopDrawing = whileVisible(
      element,
      () => {
        const to = gatewayNow();
        const state = `${channel.version} ${themeVersion} ${element.clientWidth} ${element.clientHeight}`;
        if (state === drawn && Math.abs(to - moved) < perPixel() / 2) return;
        drawn = state;
        moved = to;
        const { buckets } = channel.series;
        const gaps = holes(channel.series);
        from = leftEdge(Math.min(buckets[0]?.time ?? to, channel.steps[0]?.time ?? to), to, OVERVIEW_SPAN);
        if (canvas) return drawTimeline(canvas, channel.steps, from, to);
        chart!.resize();
        chart!.show({ columns: [columns(coarsen(buckets, PIXELS * perPixel()), gaps)], holes: gaps, from, to });
      },
      () => {
        seen = true;
        read();
      },
    );
    const stopReading = effect(() => {
      void generation.value;
      read();
    });
    return () => {
      stop.abort();
      stopReading();
      stopDrawing();
      chart?.destroy();
      canvas?.remove();
    };
  }, [channel]);
  return <div ref={box} class={`spark ${channel.spec.kind}`} role="img" aria-label={label} />;
}
