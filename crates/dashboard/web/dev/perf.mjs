// Whether the page is smooth on a slow phone: eight live charts of 3,600
// readings each, 390 px wide, the processor slowed down four times, scrolled
// up and down all the while. `npm run perf`, after `npm run build`.

import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { launch } from "./browser.mjs";

const PORT = 8178;
const CHARTS = 8;
const SLOWER = 4;
/** Milliseconds that are measured. */
const SPAN = 10_000;

/** What has to be reached. */
const FRAMES_MIN = 58;
const FIRST_PAINT_MAX = 1000;

const mock = spawn(process.execPath, [fileURLToPath(new URL("mock.mjs", import.meta.url))], { env: { ...process.env, PORT, CHARTS }, stdio: ["ignore", "pipe", "inherit"] });
await new Promise((resolve) => mock.stdout.once("data", resolve));
const browser = await launch();
try {
  const page = await browser.open({ width: 390, height: 844, scale: 2, mobile: true });
  await page.ask("Emulation.setCPUThrottlingRate", { rate: SLOWER });
  await page.go(`http://127.0.0.1:${PORT}/`);
  await page.until(`document.querySelectorAll(".tile canvas").length === ${CHARTS}`);
  await sleep(5000);
  const paint = await page.run("performance.getEntriesByName('first-contentful-paint')[0].startTime");

  // On a machine that does other things as well, frames come late for no fault
  // of the page: the time that its own thread was at work tells what is its own.
  await page.ask("Performance.enable", { timeDomain: "threadTicks" });
  const work = async () => {
    const { metrics } = await page.ask("Performance.getMetrics");
    const of = (name) => metrics.find((metric) => metric.name === name).value;
    return { task: of("TaskDuration"), script: of("ScriptDuration") };
  };
  const before = await work();
  const measured = page.run(`new Promise((resolve) => {
    const times = [];
    const tick = (time) => {
      times.push(time);
      if (time - times[0] < ${SPAN}) requestAnimationFrame(tick);
      else resolve(times.slice(1).map((one, i) => one - times[i]));
    };
    requestAnimationFrame(tick);
  })`);
  // A finger that goes up and down, as the browser itself makes it.
  let scrolling = true;
  const finger = (async () => {
    for (let way = -1; scrolling; way = -way) {
      await page.ask("Input.synthesizeScrollGesture", { x: 195, y: way < 0 ? 700 : 200, yDistance: way * 450, speed: 600, gestureSourceType: "touch" });
    }
  })();
  const frames = (await measured).sort((a, b) => a - b);
  scrolling = false;
  await finger;
  const after = await work();
  const share = (name) => `${Math.round(((after[name] - before[name]) * 100_000) / SPAN)} %`;
  const sum = frames.reduce((all, one) => all + one, 0);
  const perSecond = (1000 * frames.length) / sum;
  const at = (share) => frames[Math.floor(share * (frames.length - 1))].toFixed(1);
  const figures = { firstPaint: Math.round(paint), perSecond: Number(perSecond.toFixed(1)), median: at(0.5), p95: at(0.95), p99: at(0.99), longest: at(1) };
  console.log(`${CHARTS} charts × 3,600 readings, 390 px, processor ${SLOWER} times slower:`);
  console.log(`first paint after ${figures.firstPaint} ms; ${figures.perSecond} frames a second; a frame takes ${figures.median} ms (median), ${figures.p95} (95 %), ${figures.p99} (99 %), ${figures.longest} (longest)`);
  console.log(`the page's thread was at work ${share("task")} of the time, in scripts ${share("script")}`);
  if (perSecond < FRAMES_MIN || paint > FIRST_PAINT_MAX) {
    console.error(`wanted: ${FRAMES_MIN} frames a second, first paint within ${FIRST_PAINT_MAX} ms`);
    process.exitCode = 1;
  }
} finally {
  await browser.close();
  mock.kill();
}
