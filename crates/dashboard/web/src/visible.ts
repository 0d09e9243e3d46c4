// Draws what is on the screen, a few times a second, all in one frame.

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

let planned = false;

export function paintSoon(): void {
  if (planned || document.hidden) return;
  planned = true;
  requestAnimationFrame((time) => {
    planned = false;
    for (const one of drawn.values()) if (one.visible) one.draw(time);
  });
}

setInterval(() => drawn.size > 0 && paintSoon(), INTERVAL);

/** Has an element drawn while it is on the screen. Returns how to stop. */
export function whileVisible(element: Element, draw: (time: number) => void, onScreen?: () => void): () => void {
  drawn.set(element, { draw, onScreen, visible: false });
  observer.observe(element);
  return () => {
    observer.unobserve(element);
    drawn.delete(element);
  };
}
