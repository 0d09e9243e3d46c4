// Every text of the page, in each language. To add one: copy `en`, translate
// it, and name it in LANGUAGES; the compiler says what is missing.

const en = {
  overview: "Overview", system: "System", skipToContent: "Skip to content", views: "Views",
  live: "Live", connecting: "Connecting…", disconnected: "No connection",
  connectionOf: (state: string) => `Connection to the gateway: ${state}`,
  up: (span: string) => `up ${span}`,
  clockUnset: "Clock not set", gatewayClock: "The gateway's clock",
  lostBanner: (gateway: string, since: string) => `No connection to ${gateway || "the gateway"} since ${since}. Values are the last that came.`,
  neverBanner: "The gateway doesn't answer.",
  tryingIn: (s: number) => (s > 0 ? `Trying again in ${s} s.` : "Trying again…"), tryNow: "Try now",
  skippedNote: (n: string) => `This browser was too slow for ${n} readings; charts catch up from the history.`,
  chain: "The chain at a glance", sensors: "Sensors", store: "Store", broker: "Broker",
  readingsPerSecond: "readings/s", measuring: "measuring…",
  devicesFine: (n: number) => (n === 1 ? "The one device answers" : `All ${n} devices answer`),
  devicesLost: (lost: number, all: number) => `${lost} of ${all} devices lost`,
  devicesOpening: (n: number) => (n === 1 ? "1 device is being opened" : `${n} devices are being opened`),
  noDevices: "No device is configured",
  deviceLost: (name: string, since: string, why: string) => `${name} lost since ${since}${why ? `: ${why}` : ""}`,
  storing: (used: string, max: string) => `${used} of ${max} used`,
  heldSince: (n: string, since: string) => `${n} readings since ${since}`,
  storeError: (why: string) => `Nothing can be stored: ${why}`,
  notStored: (n: string) => `${n} not stored`,
  noForwarders: "No broker is configured: readings stay here.",
  online: "Online", offline: "Offline",
  upToDate: "Up to date", catchingUp: (n: string, eta: string) => `Catching up: ${n} to send${eta ? `, about ${eta}` : ""}`,
  buffered: (n: string, name: string, since: string, why: string) => `${n} buffered, ${name} offline since ${since}${why ? `: ${why}` : ""}`,
  bufferedConnecting: (n: string, name: string, since: string) => `${n} buffered, connecting to ${name} since ${since}`,
  onlineSince: (since: string) => `online since ${since}`,
  forwarderDropped: (n: string) => `${n} lost before they were sent`,
  demoNote: "Demo: this broker runs inside the same program, but every message really goes to it over this WebSocket.",
  devices: "Devices", noChannels: "No channel yet. Once a device is configured its readings appear here.",
  stateOk: "Answers", stateOpening: "Opening…", stateLost: "Lost",
  sinceWhy: (since: string, why: string) => `since ${since}${why ? `: ${why}` : ""}`,
  on: "On", off: "Off", noValue: "No value", noReading: "No reading yet",
  ago: (span: string) => `${span} ago`, now: "now", qualityGood: "good", qualityUncertain: "uncertain", qualityBad: "bad",
  output: "Output", lastChanges: "Last changes", onFor: (pct: string) => `on ${pct} of the time`,
  chartOf: (name: string, range: string, text: string) => `Chart of ${name}, ${range}. ${text}`,
  chartNone: "Nothing recorded.", chartFromTo: (min: string, max: string) => `Between ${min} and ${max}.`,
  low: "Low", high: "High", mean: "Mean", range: "Range", back: "All channels", backToLive: "Back to live",
  ranges: { "15min": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d", "30d": "30 d" } as Record<string, string>,
  lastRange: (range: string) => `last ${range}`,
  historyFailed: (why: string) => `The history can't be read: ${why}`, loading: "Loading…", retry: "Again",
  csv: "CSV", csvTitle: "Save what is shown as CSV", dragHint: "Drag over the chart to look closer.", touchHint: "Slide to read values, pinch to look closer.",
  holes: "Holes", gatewayOff: "the gateway was off", tooMany: "too many readings to show at once", holeFromTo: (from: string, to: string, why: string) => `${from} – ${to}: ${why}`,
  missing: (n: string) => `${n} missing`, time: "Time", value: "Value", quality: "Quality", lasted: "Lasted",
  unknownChannel: (name: string) => `There is no channel ${name}.`,
  size: "Size", readingsHeld: "Readings held", oldest: "Oldest", queued: "Not yet committed", written: "Written since start", file: "File",
  ledger: "Ledger", read: "Read", stored: "Stored", dropped: "Dropped", acknowledged: "Acknowledged", pending: "Pending", inFlight: "In flight",
  ledgerNote: "read = stored + dropped; for each broker, stored = acknowledged + pending + dropped",
  balances: "Balances", off_by: (n: string) => `Off by ${n}`,
  gateway: "Gateway", name: "Name", version: "Version", epoch: "Epoch", started: "Started", clock: "Clock",
  clockSynchronised: "synchronised", clockSet: "set, not synchronised now", clockAhead: (span: string) => `this browser's clock is ${span} behind it`, clockBehind: (span: string) => `this browser's clock is ${span} ahead of it`,
  readings: "readings", badReadings: "bad", forwarders: "Brokers", fromDevices: "From the devices",
  reasons: {} as Record<string, string>,
};

type Texts = typeof en;

const de: Texts = {
  overview: "Übersicht", system: "System", skipToContent: "Zum Inhalt", views: "Ansichten",
  live: "Live", connecting: "Verbinde…", disconnected: "Keine Verbindung",
  connectionOf: (state) => `Verbindung zum Gateway: ${state}`,
  up: (span) => `läuft ${span}`,
  clockUnset: "Uhr nicht gestellt", gatewayClock: "Die Uhr des Gateways",
  lostBanner: (gateway, since) => `Keine Verbindung zu ${gateway || "dem Gateway"} seit ${since}. Gezeigt ist, was zuletzt kam.`,
  neverBanner: "Das Gateway antwortet nicht.",
  tryingIn: (s) => (s > 0 ? `Nächster Versuch in ${s} s.` : "Neuer Versuch…"), tryNow: "Jetzt versuchen",
  skippedNote: (n) => `Dieser Browser war zu langsam für ${n} Messwerte; die Diagramme holen sie aus dem Verlauf.`,
  chain: "Die Kette auf einen Blick", sensors: "Sensoren", store: "Speicher", broker: "Broker",
  readingsPerSecond: "Messwerte/s", measuring: "wird gemessen…",
  devicesFine: (n) => (n === 1 ? "Das eine Gerät antwortet" : `Alle ${n} Geräte antworten`),
  devicesLost: (lost, all) => `${lost} von ${all} Geräten verloren`,
  devicesOpening: (n) => (n === 1 ? "1 Gerät wird geöffnet" : `${n} Geräte werden geöffnet`),
  noDevices: "Kein Gerät eingerichtet",
  deviceLost: (name, since, why) => `${name} verloren seit ${since}${why ? `: ${why}` : ""}`,
  storing: (used, max) => `${used} von ${max} belegt`,
  heldSince: (n, since) => `${n} Messwerte seit ${since}`,
  storeError: (why) => `Nichts kann gespeichert werden: ${why}`,
  notStored: (n) => `${n} nicht gespeichert`,
  noForwarders: "Kein Broker eingerichtet: die Messwerte bleiben hier.",
  online: "Verbunden", offline: "Getrennt",
  upToDate: "Auf dem Laufenden", catchingUp: (n, eta) => `Holt auf: noch ${n}${eta ? `, etwa ${eta}` : ""}`,
  buffered: (n, name, since, why) => `${n} gepuffert, ${name} getrennt seit ${since}${why ? `: ${why}` : ""}`,
  bufferedConnecting: (n, name, since) => `${n} gepuffert, Verbindung zu ${name} wird aufgebaut seit ${since}`,
  onlineSince: (since) => `verbunden seit ${since}`,
  forwarderDropped: (n) => `${n} vor dem Senden verloren`,
  demoNote: "Demo: dieser Broker läuft im selben Programm, aber jede Nachricht geht wirklich über diesen WebSocket zu ihm.",
  devices: "Geräte", noChannels: "Noch kein Kanal. Sobald ein Gerät eingerichtet ist, erscheinen hier seine Messwerte.",
  stateOk: "Antwortet", stateOpening: "Wird geöffnet…", stateLost: "Verloren",
  sinceWhy: (since, why) => `seit ${since}${why ? `: ${why}` : ""}`,
  on: "Ein", off: "Aus", noValue: "Kein Wert", noReading: "Noch kein Messwert",
  ago: (span) => `vor ${span}`, now: "jetzt", qualityGood: "gut", qualityUncertain: "unsicher", qualityBad: "schlecht",
  output: "Ausgang", lastChanges: "Letzte Änderungen", onFor: (pct) => `${pct} der Zeit ein`,
  chartOf: (name, range, text) => `Diagramm von ${name}, ${range}. ${text}`,
  chartNone: "Nichts aufgezeichnet.", chartFromTo: (min, max) => `Zwischen ${min} und ${max}.`,
  low: "Tiefst", high: "Höchst", mean: "Mittel", range: "Zeitraum", back: "Alle Kanäle", backToLive: "Zurück zu live",
  ranges: { "15min": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d", "30d": "30 d" },
  lastRange: (range) => `letzte ${range}`,
  historyFailed: (why) => `Der Verlauf ist nicht lesbar: ${why}`, loading: "Lädt…", retry: "Nochmals",
  csv: "CSV", csvTitle: "Das Gezeigte als CSV sichern", dragHint: "Über das Diagramm ziehen, um genauer hinzusehen.", touchHint: "Streichen zum Ablesen, zwei Finger zum Zoomen.",
  holes: "Lücken", gatewayOff: "das Gateway war aus", tooMany: "zu viele Messwerte auf einmal", holeFromTo: (from, to, why) => `${from} – ${to}: ${why}`,
  missing: (n) => `${n} fehlen`, time: "Zeit", value: "Wert", quality: "Güte", lasted: "Dauer",
  unknownChannel: (name) => `Einen Kanal ${name} gibt es nicht.`,
  size: "Größe", readingsHeld: "Messwerte darin", oldest: "Ältester", queued: "Noch nicht gesichert", written: "Geschrieben seit Start", file: "Datei",
  ledger: "Bilanz", read: "Gelesen", stored: "Gespeichert", dropped: "Verloren", acknowledged: "Bestätigt", pending: "Wartend", inFlight: "Unterwegs",
  ledgerNote: "gelesen = gespeichert + verloren; je Broker: gespeichert = bestätigt + wartend + verloren",
  balances: "Geht auf", off_by: (n) => `Differenz ${n}`,
  gateway: "Gateway", name: "Name", version: "Version", epoch: "Epoche", started: "Gestartet", clock: "Uhr",
  clockSynchronised: "synchronisiert", clockSet: "gestellt, derzeit nicht synchronisiert", clockAhead: (span) => `die Uhr dieses Browsers geht ${span} nach`, clockBehind: (span) => `die Uhr dieses Browsers geht ${span} vor`,
  readings: "Messwerte", badReadings: "schlechte", forwarders: "Broker", fromDevices: "Von den Geräten",
  reasons: {
    absent: "nicht da", "permission denied": "Zugriff verweigert", "in use": "belegt", timeout: "keine Antwort",
    "not understood": "nicht verstanden", "i/o error": "Ein-/Ausgabefehler", "out of range": "außerhalb des Bereichs",
    stale: "veraltet", stuck: "hängt", "driver bug": "Fehler im Treiber", "clock not set": "Uhr nicht gestellt",
    "edges missed": "Flanken verpasst", "device in doubt": "Gerät unsicher", "connection refused": "Verbindung abgelehnt",
    "store full": "Speicher voll", "store queue full": "Speicher überlastet",
  },
};

const LANGUAGES: Record<string, Texts> = { en, de };

/** The language tag for numbers and dates: `de-AT`. */
export const language: string = (typeof navigator === "undefined" ? "en" : navigator.language) || "en";

const code = language.slice(0, 2).toLowerCase();
export const text: Texts = LANGUAGES[code] ?? en;
/** The page's own language, for `<html lang>`. */
export const pageLanguage: string = code in LANGUAGES ? code : "en";

/** The gateway's word for a fault, in the page's language where it is known. */
export function reason(word: string | null | undefined): string {
  if (!word) return "";
  return Object.hasOwn(text.reasons, word) ? text.reasons[word]! : word;
}
