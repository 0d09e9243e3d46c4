// Fingers on a chart: one reads values off, two look closer or further.

interface Handlers {
  /** A finger is at this distance from the left edge, CSS pixels. */
  point: (x: number, y: number) => void;
  /** Two fingers moved from one pair of places to another, and left. */
  pinch: (from: [number, number], to: [number, number]) => void;
}

/** Fingers that end this much nearer or further apart meant to zoom. */
const PINCH_MIN = 1.1;

/** The page still scrolls up and down over the chart: see `touch-action` in the style sheet. */
export function onTouch(element: HTMLElement, { point, pinch }: Handlers): void {
  const fingers = new Map<number, { start: number; now: number }>();
  const left = () => element.getBoundingClientRect().left;
  element.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") return;
    const x = event.clientX - left();
    fingers.set(event.pointerId, { start: x, now: x });
    // Both begin again: where the first has slid meanwhile isn't part of the pinch.
    for (const finger of fingers.values()) finger.start = finger.now;
  });
  element.addEventListener("pointermove", (event) => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    finger.now = event.clientX - left();
    if (fingers.size === 1) point(finger.now, event.offsetY);
  });
  const lift = (event: PointerEvent) => {
    if (event.type === "pointerup" && fingers.has(event.pointerId) && fingers.size === 2) {
      const [a, b] = [...fingers.values()].sort((one, other) => one.start - other.start);
      const ratio = Math.abs(b!.now - a!.now) / Math.max(1, b!.start - a!.start);
      if (ratio > PINCH_MIN || ratio < 1 / PINCH_MIN) pinch([a!.start, b!.start], [a!.now, b!.now]);
      fingers.clear();
    }
    fingers.delete(event.pointerId);
  };
  for (const type of ["pointerup", "pointercancel"] as const) element.addEventListener(type, lift);
}

/**
 * The span that puts what was under two fingers under where they are now;
 * `at` tells the time at a distance from the left edge, `width` is the chart's.
 */
export function pinched(from: [number, number], to: [number, number], width: number, at: (x: number) => number): [number, number] {
  const perPixel = (at(from[1]) - at(from[0])) / Math.max(1, to[1] - to[0]);
  const start = at(from[0]) - perPixel * to[0];
  return [start, start + perPixel * width];
}
