// The colours of the style sheet, for what is drawn on a canvas.

export interface Theme {
  accent: string;
  band: string;
  card: string;
  text: string;
  faint: string;
  grid: string;
  bad: string;
  hole: string;
  on: string;
  off: string;
}

const NAMES: Record<keyof Theme, string> = {
  accent: "--accent", band: "--band", card: "--card", text: "--text", faint: "--muted", grid: "--line",
  bad: "--bad", hole: "--hole", on: "--accent", off: "--track",
};

function read(): Theme {
  const style = getComputedStyle(document.documentElement);
  const pairs = Object.entries(NAMES).map(([key, name]) => [key, style.getPropertyValue(name).trim()]);
  return Object.fromEntries(pairs) as Theme;
}

let known: Theme | null = null;
/** Grows when the colours change. */
export let themeVersion = 0;

export function theme(): Theme {
  known ??= read();
  return known;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  known = null;
  themeVersion += 1;
});
