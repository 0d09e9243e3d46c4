// A gateway that isn't one, to look at the built page with: `npm run mock`.
// It serves web/dist under the strict policy that the real one has, invents
// readings, and can be told to misbehave:
//   curl 'http://127.0.0.1:8080/mock?cloud=offline'    also: connecting, online, behind
//   curl 'http://127.0.0.1:8080/mock?weather=lost'     also: opening, ok
//   curl 'http://127.0.0.1:8080/mock?feed=dead'        refuses all; also: silent, ok
//   curl 'http://127.0.0.1:8080/mock?full=1'           the store refuses; 0: no more
//   curl 'http://127.0.0.1:8080/mock?view=nobody'      looking needs a login (see account.mjs); also: lan
//   curl 'http://127.0.0.1:8080/mock?password='        none is set yet
// With CHARTS=8 it has as many channels of 3,600 readings in a quarter of an hour.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { account, loggedIn, order as orderAccount } from "./account.mjs";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const PORT = Number(process.env.PORT ?? 8080);
const POLICY = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".webmanifest": "application/manifest+json" };

const started = Date.now() - 3 * 3_600_000;
const epoch = "9f2c44e01a7b3d58";
const mood = { cloud: "online", weather: "ok", feed: "ok", full: "0", view: "lan", since: new Date().toISOString(), weatherSince: new Date(started).toISOString() };
const iso = (at) => new Date(at).toISOString().replace("Z", "456Z");

const wave = (at, minutes, low, high, phase = 0) => low + ((high - low) * (1 + Math.sin((2 * Math.PI * at) / (minutes * 60_000) + phase))) / 2;
const noise = (at) => ((Math.imul(Math.floor(at), 2654435761) >>> 8) % 1000) / 1000 - 0.5;
const round = (value, digits) => Number(value.toFixed(digits));

/** Outputs that were written. */
const set = new Map();

const CHARTS = Array.from({ length: Number(process.env.CHARTS ?? 0) }, (_, i) => [`load/c${i + 1}`, "number", "V", null, 250, (t) => round(wave(t, 3 + i, 0, 10) + noise(t + i), 3)]);
const GREENHOUSE = [
  ["weather/temperature", "number", "Cel", "Temperature", 1000, (t) => round(wave(t, 11, 18.5, 24) + noise(t) * 0.3, 2)],
  ["weather/humidity", "number", "%RH", "Humidity", 1000, (t) => round(wave(t, 17, 42, 63, 1) + noise(t), 1)],
  ["weather/pressure", "number", "hPa", "Pressure", 5000, (t) => round(wave(t, 200, 1008, 1016) + noise(t) * 0.2, 1)],
  ["weather/light", "number", "lx", null, 500, (t) => Math.round(wave(t, 6, 20, 14_500) + noise(t) * 300)],
  ["panel/door", "boolean", "", "Door", 1000, (t) => wave(t, 4, 0, 1) > 0.8],
  ["panel/pump", "boolean", "", "Pump", 1000, (t) => (set.has("panel/pump") ? set.get("panel/pump") : wave(t, 9, 0, 1, 2) > 0.4), true],
  // One that never does what it is told, and one that can't.
  ["panel/valve", "boolean", "", "Valve (stuck)", 1000, () => false, true],
  ["panel/fan", "boolean", "", "Fan (broken)", 1000, () => false, true],
  ["panel/target", "number", "Cel", "Target", 1000, () => set.get("panel/target") ?? 21, true],
  ["panel/water", "number", "m3", "Water meter", 2000, (t) => round(1842 + (t - started) / 9e6, 3)],
  ["meter/power", "number", "W", "Power", 200, (t) => round((wave(t, 2, 0, 1) > 0.5 ? 1820 : 240) + noise(t) * 60, 1)],
  ["meter/voltage", "number", "V", "Voltage", 1000, (t) => round(230 + noise(t) * 3, 1)],
  ["meter/mode", "text", "", "Mode", 1000, (t) => ["idle", "charging", "holding"][Math.floor(t / 190_000) % 3]],
  ["gateway/backlog", "number", "", "Backlog", 1000, () => pending()],
  ["gateway/cpu_temperature", "number", "Cel", "CPU temperature", 5000, (t) => round(wave(t, 8, 44, 52) + noise(t), 1)],
  ["gateway/written", "number", "By", "Bytes written", 5000, (t) => Math.round((t - started) * 40)],
];
const CHANNELS = (CHARTS.length ? CHARTS : GREENHOUSE).map(([channel, kind, unit, label, every, value, output]) => ({ channel, kind, unit, label, every, value, output: Boolean(output), last: null, next: 0 }));

let seq = 1_000_000;
let stored = 1_000_000;
let backlog = 0;
let dropped = 0;
const pending = () => Math.round(backlog);

/** 40 minutes ago something was lost, for as long as 90 s. */
const GAP = { from: Date.now() - 6 * 60_000, to: Date.now() - 4.5 * 60_000 };
const quiet = (spec, at) => spec.channel.startsWith("weather/") && at > GAP.from && at < GAP.to;

function reading(spec, at, number) {
  const bad = spec.channel === "meter/voltage" && Math.floor(at / 30_000) % 7 === 3;
  const uncertain = spec.channel === "panel/water";
  const body = { seq: number, time: iso(at), value: bad ? null : spec.value(at), quality: bad ? "bad" : uncertain ? "uncertain" : "good" };
  if (bad) body.reason = "out of range";
  if (uncertain) body.reason = "edges missed";
  return body;
}

function status() {
  const now = Date.now();
  const lost = mood.weather !== "ok";
  const device = (name, driver, state = "ok", error = null, since = iso(started)) => ({ name, label: name === "panel" ? "Control panel" : null, driver, state, since, error, readings: 48_211, bad: state === "ok" ? 0 : 12, channels: CHANNELS.map((c) => c.channel).filter((c) => c.startsWith(name)) });
  const offline = mood.cloud === "offline" ? "connection refused" : null;
  const state = mood.cloud === "behind" ? "online" : mood.cloud;
  const full = mood.full === "1";
  return {
    gateway: "greenhouse", version: "0.1.0", epoch, time: iso(now), started: iso(started), uptime_s: Math.round((now - started) / 1000), clock: { synchronized: true, set: true },
    devices: [
      device("weather", "serial", mood.weather, lost ? "absent" : null, lost ? mood.weatherSince : undefined),
      device("panel", "gpio"), device("meter", "modbus"), device("gateway", "system"),
    ],
    store: { path: "/var/lib/tidemill/tidemill.db", size: 148_512_768, max_size: 2_147_483_648, readings: stored, oldest: iso(now - 12 * 86_400_000), committed: seq, queued: 14, read: stored + dropped, stored, dropped, bytes_written: 61_234_567, losses: [{ reason: "store full", count: 90 }, { reason: "edges missed", count: 12_345 }], error: full ? "disk full" : null, forwarders: [] },
    forwarders: [
      { name: "cloud", url: "wss://broker.example.com:8884/mqtt", state, since: mood.since, error: offline, in_flight: state === "online" ? 3 : 0, stored, acknowledged: stored - pending(), pending: pending(), dropped: 0 },
      { name: "local", url: "ws://127.0.0.1:9001/mqtt", state: "online", since: iso(started), error: null, in_flight: 2, stored, acknowledged: stored - 2, pending: 2, dropped: 0 },
    ],
    ledger: { read: stored + dropped, stored, dropped, channels: CHANNELS.map((c, i) => ({ channel: c.channel, read: 1000 * i + 3, stored: 1000 * i, dropped: 3 })) },
  };
}

function hello() {
  const channels = CHANNELS.map(({ channel, kind, unit, label, output, last }) => {
    const [device, name] = channel.split("/");
    return { channel, device, name, kind, unit, label, output, last };
  });
  return { type: "hello", gateway: "greenhouse", epoch, channels };
}

const DURATION = { min: 60_000, h: 3_600_000, d: 86_400_000 };
function moment(text, fallback) {
  if (!text) return fallback;
  const found = /^(\d+)(min|h|d)$/.exec(text);
  return found ? Date.now() - Number(found[1]) * DURATION[found[2]] : Date.parse(text);
}

function history(query) {
  const spec = CHANNELS.find((one) => one.channel === query.get("channel"));
  if (!spec) return [404, { error: "no such channel" }];
  const to = moment(query.get("to"), Date.now());
  const from = moment(query.get("from"), to - 3_600_000);
  const points = Number(query.get("points") ?? 0);
  const gaps = spec.channel.startsWith("weather/") && GAP.to > from && GAP.from < to
    ? [{ epoch, seq: 12, from: iso(GAP.from), to: iso(GAP.to), count: 90, channel: spec.channel, reason: "store full" }]
    : [];
  const each = Math.max(spec.every, (to - from) / 20_000);
  const readings = [];
  for (let at = Math.ceil(from / each) * each; at < to; at += each) if (!quiet(spec, at)) readings.push(reading(spec, at, Math.round(at / 1000)));
  if (!points) return [200, { channel: spec.channel, unit: spec.unit, readings, gaps }];
  const width = (to - from) / points;
  const buckets = new Map();
  for (const { time, value: read } of readings) {
    // A boolean's mean is the share of the readings that were true.
    const value = typeof read === "boolean" ? Number(read) : read;
    const slot = Math.floor((Date.parse(time) - from) / width);
    const b = buckets.get(slot) ?? { time: iso(from + slot * width), min: null, mean: null, max: null, count: 0, bad: 0 };
    buckets.set(slot, b);
    if (value === null) {
      b.bad += 1;
      continue;
    }
    b.min = Math.min(b.min ?? value, value);
    b.max = Math.max(b.max ?? value, value);
    b.mean = ((b.mean ?? 0) * b.count + value) / (b.count + 1);
    b.count += 1;
  }
  return [200, { channel: spec.channel, unit: spec.unit, buckets: [...buckets.values()], gaps }];
}

function order(query) {
  for (const [key, value] of query) {
    mood[key] = value;
    orderAccount(key, value);
    if (key === "cloud") {
      mood.since = iso(Date.now());
      if (value !== "online") backlog += 12_345;
    }
    if (key === "weather") mood.weatherSince = iso(Date.now());
    if (key === "feed" && value === "dead") for (const client of feed.clients) client.terminate();
  }
  return mood;
}

/** Gives an output a value: at once, late or not at all, as devices are. */
async function write(request, name, { value }) {
  const spec = CHANNELS.find((one) => one.channel === name);
  if (!loggedIn(request)) return [401, { error: "writing needs a login, or a token made with --write" }];
  if (!spec) return [404, { error: `there is no channel "${name}"` }];
  if (!spec.output) return [409, { error: `${name} is measured, not switched: only an output can be set` }];
  if (typeof value !== spec.kind) return [422, { error: `${name} takes a ${spec.kind}` }];
  await sleep(400);
  if (name === "panel/fan") return [502, { error: "panel: line 22 is held by another program" }];
  if (name !== "panel/valve") set.set(name, value);
  return [200, { ok: true }];
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length ? JSON.parse(Buffer.concat(chunks)) : null;
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://x");
  const json = (code, body, headers = {}) => response.writeHead(code, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  if (url.pathname === "/mock") return json(200, order(url.searchParams));
  if (mood.feed === "dead") return request.socket.destroy();
  // A network that swallows everything: no answer, no end.
  if (mood.feed === "silent") return;
  const body = await bodyOf(request);
  const accounts = account(request, url.pathname, body, mood.view);
  if (accounts) return json(...accounts);
  const output = /^\/api\/v1\/channels\/(.+\/.+)$/.exec(url.pathname);
  if (output && request.method === "POST") return json(...(await write(request, output[1], body)));
  if (url.pathname.startsWith("/api/") && mood.view === "nobody" && !loggedIn(request)) return json(401, { error: "dashboard.view lets nobody look without a login: log in" });
  if (url.pathname === "/healthz") return response.end("ok");
  if (url.pathname === "/api/v1/status") return json(200, status());
  if (url.pathname === "/api/v1/gaps") return json(200, { gaps: [{ epoch, seq: 12, from: iso(GAP.from), to: iso(GAP.to), count: 90, channel: "weather/temperature", reason: "store full" }] });
  if (url.pathname === "/api/v1/readings") return json(...history(url.searchParams));
  try {
    const path = normalize(url.pathname === "/" ? "/index.html" : url.pathname);
    const body = await readFile(join(DIST, path));
    response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream", "content-security-policy": POLICY }).end(body);
  } catch {
    json(404, { error: "no such path" });
  }
});

const feed = new WebSocketServer({ noServer: true, handleProtocols: () => "tidemill.v1" });
server.on("upgrade", (request, socket, head) => {
  if (mood.feed === "dead") return socket.destroy();
  if (mood.feed === "silent") return;
  if (mood.view === "nobody" && !loggedIn(request)) return socket.end("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
  feed.handleUpgrade(request, socket, head, (client) => {
    client.send(JSON.stringify(hello()));
    client.send(JSON.stringify({ type: "status", ...status() }));
  });
});

function tell(frame) {
  if (mood.feed !== "ok") return;
  const text = JSON.stringify(frame);
  for (const client of feed.clients) client.send(text);
}

setInterval(() => {
  const now = Date.now();
  const readings = [];
  for (const spec of CHANNELS) {
    if (now < spec.next || (mood.weather === "lost" && spec.channel.startsWith("weather/"))) continue;
    spec.next = now + spec.every;
    seq += 1;
    if (mood.full === "1") dropped += 1;
    else stored += 1;
    if (mood.cloud === "offline" || mood.cloud === "connecting") backlog += 1;
    spec.last = reading(spec, now, seq);
    readings.push({ channel: spec.channel, ...spec.last });
  }
  if (mood.cloud === "behind" || mood.cloud === "online") backlog = Math.max(0, backlog - 12);
  if (readings.length) tell({ type: "readings", readings });
}, 100);
setInterval(() => tell({ type: "status", ...status() }), 1000);

server.listen(PORT, "127.0.0.1", () => console.log(`the mock gateway: http://127.0.0.1:${PORT}/`));
