// UCUM and SenML codes as people write them.

const PRETTY: Record<string, string> = {
  Cel: "°C", "[degF]": "°F", K: "K",
  "%RH": "%", "%": "%", "/": "",
  "%EL": "%", EL: "s", "1": "", "{count}": "", count: "",
  deg: "°", Ohm: "Ω", kOhm: "kΩ", um: "µm", us: "µs", uA: "µA", uV: "µV", uW: "µW", "u[IU]": "µIU",
  m2: "m²", m3: "m³", cm2: "cm²", cm3: "cm³", l: "L", dm3: "L",
  "m/s2": "m/s²", "m3/s": "m³/s", "m3/h": "m³/h", "l/s": "L/s", "l/min": "L/min", "l/h": "L/h",
  "ug/m3": "µg/m³", "mg/m3": "mg/m³", "kg/m3": "kg/m³", "W/m2": "W/m²", "cd/m2": "cd/m²",
  "[ppm]": "ppm", "[ppb]": "ppb", "[in_i]": "in", "[ft_i]": "ft", "[psi]": "psi", "[mi_i]": "mi", "[mi_i]/h": "mph",
  "kW.h": "kWh", "W.h": "Wh", kWh: "kWh", Wh: "Wh", VAs: "VAs", varh: "varh", "A.h": "Ah",
  dBW: "dBW", dBm: "dBm", beat: "beats", "beat/min": "bpm", "/min": "1/min", "/s": "1/s", "/h": "1/h",
  By: "B", kBy: "kB", MBy: "MB", "By/s": "B/s", bit: "bit", "bit/s": "bit/s", min: "min", h: "h", d: "d", a: "a",
};

/** What stands behind the number: `Cel` → `°C`; an unknown code stays as it is. */
export function pretty(code: string | null | undefined): string {
  if (!code) return "";
  return Object.hasOwn(PRETTY, code) ? PRETTY[code]! : code;
}

/** No finer than a person asks for: a CPU's load in hundredths of a percent is noise. */
const DECIMALS_MAX: Record<string, number> = { "%": 1, "%RH": 1, "%EL": 1, Cel: 2, "[degF]": 1, lx: 1 };

/** The most decimals that a value with this unit is shown with. */
export function decimalsMax(code: string | null | undefined): number {
  return code && Object.hasOwn(DECIMALS_MAX, code) ? DECIMALS_MAX[code]! : 8;
}

/** Whether the number is bytes, shown with a prefix: 1.5 GB. */
export function isBytes(code: string | null | undefined): boolean {
  return code === "By" || code === "B";
}
