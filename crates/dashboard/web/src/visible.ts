// Draws what is on the screen, a few times a second, as much in each frame as
// leaves a slow phone time to scroll.

interface Drawn {
  draw: (time: number) => void;
  onScreen: (() => void) | undefined;
  visible: boolean;
}

/** Milliseconds between drawings: a chart moves by less than a pixel meanwhile. */
const INTERVAL = 250;

const drawn = new Map<Element, Drawn>();

const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const one = drawn.get(entry.target);
      if (!one) continue;
      one.visible = entry.isIntersecting;
      if (one.visible) one.onScreen?.();
    }
    paintSoon();
  },
  // A little early, so that what scrolls in is drawn already.
  { rootMargin: "120px" },
);

/**
 * Milliseconds of a frame's sixteen that drawing may take; what is left over is
 * drawn in the next. One chart is drawn in any case.
 */
const BUDGET = 4;

/** What is still to be drawn, in order. */
const due = new Set<Drawn>();
let planned = false;

export function paintSoon(): void {
  if (document.hidden) return;
  for (const one of drawn.values()) if (one.visible) due.add(one);
  plan();
}

function plan(): void {
  if (planned || due.size === 0) return;
  planned = true;
  requestAnimationFrame((time) => {
    planned = false;
    const begin = performance.now();
    for (const one of due) {
      due.delete(one);
      if (one.visible) one.draw(time);
      if (performance.now() - begin > BUDGET) break;
    }
    plan();
  });
}

setInterval(() => drawn.size > 0 && paintSoon(), INTERVAL);

/** Has an element drawn while it is on the screen. Returns how to stop. */
export function whileVisible(element: Element, draw: (time: number) => void, onScreen?: () => void): () => void {
  const one: Drawn = { draw, onScreen, visible: false };
  drawn.set(element, one);
  observer.observe(element);
  return () => {
    observer.unobserve(element);
    drawn.delete(element);
    due.delete(one);
  };
}
