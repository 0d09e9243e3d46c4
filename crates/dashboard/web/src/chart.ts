// Numbers over time, by uPlot: for each channel the mean as a line and minimum
// to maximum as a band around it; holes hatched. Channels of one unit share an
// axis.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock, stepDecimals } from "./format";
import { align, type Columns, type Hole } from "./series";
import { language, reason } from "./text";
import { theme } from "./theme";
import { onTouch, pinched } from "./touch";

/** One channel's line. */
export interface Line {
  colour: () => string;
  band: () => string;
  /** Lines with the same unit share an axis. */
  unit: string;
}

export interface View {
  /** In the order of the lines. */
  columns: Columns[];
  holes: Hole[];
  /** Milliseconds. */
  from: number;
  to: number;
}

export interface Options {
  /** With axes, a cursor, and dragging to zoom; else a bare line. */
  full: boolean;
  lines: Line[];
  /** The cursor is at a time (milliseconds), or left. */
  onPoint?: (time: number | null) => void;
  /** A span was dragged over, milliseconds. */
  onZoom?: (from: number, to: number) => void;
}

/** A flat line lies in the middle, and noise in the last digit doesn't fill the chart. */
function yRange(_: uPlot, min: number | null, max: number | null): uPlot.Range.MinMax {
  if (min === null || max === null) return [0, 1];
  const middle = (min + max) / 2;
  const least = Math.max(Math.abs(middle) * 0.004, 1e-9);
  const half = Math.max((max - min) / 2, least);
  return [middle - half * 1.15, middle + half * 1.15];
}

/** Columns of one line: minimum, maximum, mean; the cursor follows the mean. */
const COLUMNS = 3;

/** More axes than this and the chart is all axes: the rest has a scale, but no axis. */
const AXES_MAX = 2;

export class Chart {
  private plot: uPlot;
  private holes: Hole[] = [];
  private window: [number, number] = [0, 1];

  constructor(private element: HTMLElement, private options: Options) {
    this.plot = new uPlot(this.uplotOptions(), align(options.lines.map(() => [[], [], [], []])) as uPlot.AlignedData, element);
    if (!options.full) return;
    onTouch(this.plot.over, {
      point: (left, top) => this.plot.setCursor({ left, top }),
      pinch: (before, after) => {
        const time = (x: number) => this.plot.posToVal(x, "x") * 1000;
        options.onZoom?.(...pinched(before, after, this.plot.over.clientWidth, time));
      },
    });
  }

  show(view: View): void {
    this.holes = view.holes;
    this.window = [view.from / 1000, view.to / 1000];
    // The scales are set by `range` below as the data is.
    this.plot.setData(align(view.columns) as uPlot.AlignedData);
  }

  resize(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width && height && (width !== this.plot.width || height !== this.plot.height)) this.plot.setSize({ width, height });
  }

  destroy(): void {
    this.plot.destroy();
  }

  private uplotOptions(): uPlot.Options {
    const { full, lines } = this.options;
    const units = [...new Set(lines.map((line) => line.unit))];
    const scale = (unit: string) => `y${units.indexOf(unit)}`;
    const font = "12px system-ui, sans-serif";
    const axis: uPlot.Axis = {
      stroke: () => theme().faint,
      font,
      grid: { stroke: () => theme().grid, width: 1 },
      ticks: { show: false },
    };
    const yAxes = units.slice(0, AXES_MAX).map((unit, i): uPlot.Axis => {
      const own = lines.filter((line) => line.unit === unit);
      return {
        ...axis,
        scale: scale(unit),
        side: i === 0 ? 3 : 1,
        // Which axis is whose is told by its colour, where it is one line's alone.
        stroke: () => (units.length > 1 && own.length === 1 ? own[0]!.colour() : theme().faint),
        grid: i === 0 ? axis.grid! : { show: false },
        size: (_u, values) => 14 + 7 * Math.max(3, ...(values ?? []).map((value) => value.length)),
        values: (_u, ticks) => this.yTicks(ticks),
      };
    });
    const series = lines.flatMap(({ colour, unit }): uPlot.Series[] => {
      // The edges of the band: shown, or uPlot leaves the band out, but invisible.
      const edge: uPlot.Series = { scale: scale(unit), stroke: "transparent", width: 0, points: { show: false } };
      return [
        edge,
        edge,
        {
          scale: scale(unit),
          stroke: colour,
          ...(full ? {} : { fill: shade }),
          width: full ? 2 : 1.75,
          // One value between two holes is no line: it is shown as a dot.
          points: { show: (u, series, first, last) => sparse(u, series, first, last), size: 4, fill: colour },
        },
      ];
    });
    const yScales = Object.fromEntries(units.map((unit): [string, uPlot.Scale] => [scale(unit), { range: yRange }]));
    return {
      width: this.element.clientWidth || 300,
      height: this.element.clientHeight || 60,
      padding: full ? [12, 20, 0, 0] : [4, 0, 4, 0],
      legend: { show: false },
      cursor: full
        ? { y: false, drag: { x: true, y: false, setScale: false }, points: { size: (_u, series) => (series % COLUMNS === 0 ? 8 : 0), fill: (_u, series) => lines[series / COLUMNS - 1]?.colour() ?? "transparent" } }
        : { show: false },
      scales: { x: { time: true, range: () => this.window }, ...yScales },
      axes: full ? [{ ...axis, space: 70, size: 30, values: (u, ticks) => ticks.map((tick) => this.timeTick(u, tick)) }, ...yAxes] : [{ show: false }, { show: false, scale: "y0" }],
      series: [{}, ...series],
      bands: lines.map(({ band }, i) => ({ series: [COLUMNS * i + 2, COLUMNS * i + 1], fill: band })),
      hooks: {
        drawClear: [(u) => this.drawHoles(u)],
        setCursor: [(u) => this.options.onPoint?.(pointedAt(u))],
        setSelect: [
          (u) => {
            const { left, width } = u.select;
            if (width < 8) return;
            const at = (x: number) => u.posToVal(x, "x") * 1000;
            this.options.onZoom?.(at(left), at(left + width));
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          },
        ],
      },
    };
  }

  /** Ticks of one axis have the same number of decimals: those of its step. */
  private yTicks(ticks: number[]): string[] {
    const step = Math.abs((ticks[1] ?? 1) - (ticks[0] ?? 0)) || 1;
    const digits = stepDecimals(step);
    const format = new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return ticks.map((tick) => format.format(tick));
  }

  private timeTick(u: uPlot, tick: number): string {
    const span = (u.scales.x!.max ?? 0) - (u.scales.x!.min ?? 0);
    const at = new Date(tick * 1000);
    if (span > 200 * 86_400) return at.toLocaleDateString(language, { month: "short", year: "numeric" });
    if (span > 2 * 86_400) return at.toLocaleDateString(language, { day: "numeric", month: "short" });
    return clock(language, tick * 1000, tick * 1000, span < 180);
  }

  private drawHoles(u: uPlot): void {
    const { left, top, width, height } = u.bbox;
    const [from, to] = this.window;
    const context = u.ctx;
    for (const hole of this.holes) {
      const x = (at: number) => left + (width * (Math.min(Math.max(at / 1000, from), to) - from)) / (to - from);
      const a = x(hole.from);
      // A hole too short for a pixel is shown all the same: something is missing.
      const b = Math.max(x(hole.to), a + 2);
      if (hole.to / 1000 < from || hole.from / 1000 > to) continue;
      context.save();
      context.beginPath();
      context.rect(a, top, b - a, height);
      context.clip();
      context.fillStyle = theme().hole;
      context.globalAlpha = 0.25;
      context.fillRect(a, top, b - a, height);
      context.globalAlpha = 0.8;
      context.strokeStyle = theme().hole;
      context.lineWidth = devicePixelRatio;
      const step = 6 * devicePixelRatio;
      for (let line = a - height; line < b; line += step) {
        context.moveTo(line, top + height);
        context.lineTo(line + height, top);
      }
      context.stroke();
      context.restore();
      if (this.options.full) label(u, reason(hole.reason), a, b);
    }
  }
}

/** The time of the point nearest to the cursor, milliseconds. */
function pointedAt(u: uPlot): number | null {
  const at = u.cursor.idx;
  const time = at == null ? undefined : u.data[0][at];
  return time === undefined ? null : time * 1000;
}

/** The colour under a small line, fading downwards. */
function shade(u: uPlot): CanvasGradient {
  const { top, height } = u.bbox;
  const gradient = u.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, theme().band);
  gradient.addColorStop(1, "rgba(0, 0, 0, 0)");
  return gradient;
}

/** Why there is a hole, written in it where it fits. */
function label(u: uPlot, text: string, from: number, to: number): void {
  const context = u.ctx;
  const scale = devicePixelRatio;
  context.save();
  context.font = `${12 * scale}px system-ui, sans-serif`;
  const width = context.measureText(text).width + 12 * scale;
  if (width < to - from) {
    const x = (from + to) / 2;
    const y = u.bbox.top + 14 * scale;
    context.fillStyle = theme().card;
    context.fillRect(x - width / 2, y - 10 * scale, width, 20 * scale);
    context.fillStyle = theme().text;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, x, y);
  }
  context.restore();
}

/** Whether the points stand so far apart that a person wants to see each. */
function sparse(u: uPlot, series: number, first: number, last: number): boolean {
  const values = u.data[series]!;
  let shown = 0;
  for (let i = first; i <= last; i += 1) if (values[i] != null) shown += 1;
  return shown > 0 && shown <= 3;
}
