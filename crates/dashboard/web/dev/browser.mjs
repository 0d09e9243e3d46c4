// A Chromium without a window, driven through its own DevTools protocol: what
// `npm run screenshots` and `npm run perf` look at the page with.
//   https://chromedevtools.github.io/devtools-protocol/

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import WebSocket from "ws";

const PROGRAM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/** The protocol's address, which the browser writes into its profile as it starts. */
async function address(profile) {
  for (let tries = 0; tries < 100; tries += 1) {
    const text = await readFile(join(profile, "DevToolsActivePort"), "utf8").catch(() => "");
    const [port, path] = text.split("\n");
    if (path) return `ws://127.0.0.1:${port}${path}`;
    await sleep(100);
  }
  throw new Error(`${PROGRAM} doesn't start: name another with CHROMIUM=/path`);
}

/** Starts the browser; `open(view)` gives pages, `close()` ends it and leaves nothing behind. */
export async function launch() {
  const profile = await mkdtemp(join(tmpdir(), "tidemill-browser-"));
  const arguments_ = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"];
  const browser = spawn(PROGRAM, arguments_, { stdio: "ignore" });
  const gone = new Promise((resolve) => browser.once("exit", resolve));
  const socket = new WebSocket(await address(profile), { perMessageDeflate: false });
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));

  let last = 0;
  const waiting = new Map();
  const listeners = new Set();
  socket.on("message", (data) => {
    const message = JSON.parse(data);
    if (!message.id) return listeners.forEach((listen) => listen(message));
    const { resolve, reject } = waiting.get(message.id);
    waiting.delete(message.id);
    if (message.error) reject(new Error(message.error.message));
    else resolve(message.result);
  });
  const send = (method, params = {}, sessionId = undefined) =>
    new Promise((resolve, reject) => {
      last += 1;
      waiting.set(last, { resolve, reject });
      socket.send(JSON.stringify({ id: last, method, params, sessionId }));
    });

  /** @param view width and height in CSS pixels, scale, dark, mobile, language */
  const open = async ({ width, height, scale = 1, dark = false, mobile = false, language = "en-GB" }) => {
    const { targetId } = await send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
    const ask = (method, params) => send(method, params, sessionId);
    await ask("Page.enable");
    await ask("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: scale, mobile });
    if (mobile) await ask("Emulation.setTouchEmulationEnabled", { enabled: true });
    await ask("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
    await ask("Emulation.setLocaleOverride", { locale: language });
    const go = async (url) => {
      const loaded = new Promise((resolve) => {
        const listen = (message) => {
          if (message.sessionId !== sessionId || message.method !== "Page.loadEventFired") return;
          listeners.delete(listen);
          resolve();
        };
        listeners.add(listen);
      });
      await ask("Page.navigate", { url });
      await loaded;
    };
    /** The value of an expression, or of the promise that it is. */
    const run = async (expression) => {
      const { result, exceptionDetails } = await ask("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      return result.value;
    };
    /** Waits until an expression is true. */
    const until = async (expression, seconds = 10) => {
      for (let tries = 0; tries < seconds * 10; tries += 1) {
        if (await run(expression)) return;
        await sleep(100);
      }
      throw new Error(`not within ${seconds} s: ${expression}`);
    };
    const picture = async (clip = { x: 0, y: 0, width, height }) => {
      const { data } = await ask("Page.captureScreenshot", { format: "png", clip: { ...clip, scale: 1 } });
      return Buffer.from(data, "base64");
    };
    const listen = (heard) => listeners.add((message) => (!message.sessionId || message.sessionId === sessionId) && heard(message));
    return { ask, go, run, until, picture, listen };
  };
  const close = async () => {
    await send("Browser.close").catch(() => {});
    await gone;
    await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  };
  return { open, close };
}
