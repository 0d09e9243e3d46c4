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
  line2: string;
  line3: string;
  line4: string;
  line5: string;
}

const NAMES: Record<keyof Theme, string> = {
  accent: "--accent", band: "--band", card: "--card", text: "--text", faint: "--muted", grid: "--line",
  bad: "--bad", hole: "--hole", on: "--accent", off: "--track",
  line2: "--line-2", line3: "--line-3", line4: "--line-4", line5: "--line-5",
};

function read(): Theme {
  const style = getComputedStyle(document.documentElement);
  const pairs = Object.entries(NAMES).map(([key, name]) => [key, style.getPropertyValue(name).trim()]);
  return Object.fromEntries(pairs) as Theme;
}

/** The colours of lines over each other, by place. */
export const LINES = ["accent", "line2", "line3", "line4", "line5"] as const;

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
