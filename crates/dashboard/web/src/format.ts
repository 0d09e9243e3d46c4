// Numbers, sizes and times as a person reads them. All pure; the language is
// an argument, so that tests need no browser.

const cache = new Map<string, Intl.NumberFormat>();

/** A formatter; making one is a hundred times dearer than using it. */
function numberFormat(language: string, digits: number): Intl.NumberFormat {
  const key = `${language} ${digits}`;
  let format = cache.get(key);
  if (!format) {
    format = new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
    cache.set(key, format);
  }
  return format;
}

/** How many decimals show about four digits: 1013.2, 21.53, 0.00123. */
export function decimals(value: number): number {
  const size = Math.abs(value);
  if (!Number.isFinite(size) || size === 0 || size >= 10_000) return 0;
  if (size >= 1000) return 1;
  if (size >= 10) return 2;
  if (size >= 1) return 3;
  return Math.min(8, 3 - Math.floor(Math.log10(size)));
}

/**
 * How many decimals a channel's values need so that they line up: no more than
 * the values have, no more than four digits show. 21.5 and 22 are 21.5, 22.0.
 */
export function sharedDecimals(values: Iterable<number>): number {
  let most = 0;
  let largest = 0;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    largest = Math.max(largest, Math.abs(value));
    // 0.42 summed up in steps of 0.01 is 0.42000000000000004.
    const text = String(Number(value.toPrecision(12)));
    const exponent = text.indexOf("e-");
    const own = exponent >= 0 ? 8 : text.includes(".") ? text.length - text.indexOf(".") - 1 : 0;
    most = Math.max(most, own);
  }
  return Math.min(most, decimals(largest));
}

/** How many decimals an axis needs whose ticks are this far apart: 2.5 → 1. */
export function stepDecimals(step: number): number {
  for (let digits = 0; digits < 8; digits += 1) {
    const scaled = step * 10 ** digits;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 * scaled) return digits;
  }
  return 8;
}

/** A number with its digits grouped. Very large and very small ones get an exponent. */
export function number(language: string, value: number, digits = decimals(value)): string {
  const size = Math.abs(value);
  if (size >= 1e12 || (size > 0 && size < 1e-6)) return value.toExponential(2);
  const text = numberFormat(language, digits).format(value);
  // -0.001 with two decimals is 0.00, not -0.00.
  return /^-[0.,]*$/.test(text) ? text.slice(1) : text;
}

export function count(language: string, value: number): string {
  return number(language, Math.round(value), 0);
}

/** A rate: whole numbers from ten on, one decimal below. */
export function rate(language: string, value: number): string {
  const digits = value >= 10 || Number.isInteger(value) ? 0 : value >= 0.1 || value === 0 ? 1 : 2;
  return number(language, value, digits);
}

/** A number and its unit: 1.5 MB (powers of 1000, as disks are sold). */
export function bytes(language: string, value: number): [string, string] {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let size = value;
  while (Math.abs(size) >= 999.5 && at < units.length - 1) {
    size /= 1000;
    at += 1;
  }
  const digits = at === 0 || Math.abs(size) >= 100 ? 0 : Math.abs(size) >= 10 ? 1 : 2;
  return [number(language, size, digits), units[at]!];
}

/** A span in the two largest parts that matter: 3 s, 4 min 5 s, 2 h 10 min, 3 d 4 h. */
export function span(milliseconds: number): string {
  const s = Math.max(0, Math.floor(milliseconds / 1000));
  const two = (big: number, bigUnit: string, small: number, smallUnit: string) =>
    small ? `${big} ${bigUnit} ${small} ${smallUnit}` : `${big} ${bigUnit}`;
  if (s < 60) return `${s} s`;
  if (s < 600) return two(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return two(Math.floor(s / 86_400), "d", Math.floor((s % 86_400) / 3600), "h");
}

/** A span in its largest part alone, for what ticks: 3 s, 4 min, 2 h, 3 d. */
export function shortSpan(milliseconds: number): string {
  const s = Math.max(0, Math.floor(milliseconds / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

/** The time of day, with the day when it isn't today's. */
export function clock(language: string, at: number, now: number, seconds = false): string {
  const date = new Date(at);
  const time: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (seconds) time.second = "2-digit";
  if (date.toDateString() !== new Date(now).toDateString()) {
    time.day = "numeric";
    time.month = "short";
    if (Math.abs(now - at) > 300 * 86_400_000) time.year = "numeric";
  }
  return date.toLocaleString(language, time);
}

/** `2026-11-24T08:20:03.123456Z` → milliseconds, with the microseconds kept as a fraction. */
export function parseTime(text: string): number {
  const at = Date.parse(text);
  const micros = /\.\d{3}(\d{1,3})/.exec(text)?.[1];
  return micros ? at + Number(micros.padEnd(3, "0")) / 1000 : at;
}

const ACRONYMS: Record<string, string> = { ac: "AC", co2: "CO₂", cpu: "CPU", dc: "DC", io: "I/O", nox: "NOₓ", ph: "pH", ram: "RAM", usb: "USB", uv: "UV", voc: "VOC" };

/** `soil_moisture` → `Soil moisture`: for a channel or device that has no label. */
export function title(name: string): string {
  const words = name.split(/[_-]+/).map((word) => (Object.hasOwn(ACRONYMS, word) ? ACRONYMS[word]! : word));
  const text = words.join(" ").trim();
  return /^p?[A-Z]/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
}
