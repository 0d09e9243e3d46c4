// A boolean's or a text's values over time, as bars on a canvas.

import { segments, type Step } from "./steps";
import { theme } from "./theme";

/** Bars with text in them alternate between two shades, so that changes show. */
export function drawTimeline(canvas: HTMLCanvasElement, steps: Step[], from: number, now: number): void {
  const scale = devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  if (!context) return;
  const colours = theme();
  context.clearRect(0, 0, width, height);
  context.font = `${12 * scale}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const bars = segments(steps, now, now - from);
  bars.forEach((bar, i) => {
    const x = Math.round(bar.from * width);
    // A change shorter than a pixel is shown all the same.
    const w = Math.max(Math.round(bar.to * width) - x, scale);
    if (bar.value === null) {
      context.fillStyle = colours.hole;
      context.globalAlpha = 0.6;
      context.fillRect(x, height * 0.4, w, height * 0.2);
    } else if (typeof bar.value === "boolean") {
      context.fillStyle = bar.value ? colours.on : colours.off;
      const tall = height * (bar.step.share ?? 1);
      if (bar.value) context.fillRect(x, height - tall, w, tall);
      else context.fillRect(x, height - 3 * scale, w, 3 * scale);
    } else {
      context.fillStyle = colours.accent;
      context.globalAlpha = i % 2 ? 0.22 : 0.38;
      context.fillRect(x, 0, Math.max(w - scale, scale), height);
      context.globalAlpha = 1;
      context.fillStyle = colours.text;
      const label = String(bar.value);
      if (context.measureText(label).width < w - 12 * scale) context.fillText(label, x + 6 * scale, height / 2);
    }
    context.globalAlpha = 1;
  });
}
