// The pictures in the README, from a gateway that runs:
//   cargo run -p tidemill -- demo
//   npm run screenshots [http://127.0.0.1:8080/]
// They are taken when the gateway has run for long enough to have full charts.

import { writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { launch } from "./browser.mjs";

const URL_ = process.argv[2] ?? "http://127.0.0.1:8080/";
const DOCS = new URL("../../../../docs/", import.meta.url);

/** Seconds after which the demo's charts are worth a picture. */
const AGE = 240;

const PICTURES = [
  // As high as its content asks for, so that no row of channels is cut in two.
  { name: "dashboard", width: 1280, height: 1100, scale: 1.5, upTo: "section.group:nth-of-type(3)", max: 300_000 },
  { name: "dashboard-phone", width: 390, height: 844, scale: 2, dark: true, mobile: true, max: 250_000 },
];

const uptime = async () => (await (await fetch(new URL("api/v1/status", URL_))).json()).uptime_s;
for (let age = await uptime(); age < AGE; age = await uptime()) {
  console.log(`the gateway has run for ${age} s; waiting until it has for ${AGE} s`);
  await sleep((AGE - age) * 1000);
}

const browser = await launch();
try {
  for (const { name, max, upTo, ...view } of PICTURES) {
    const page = await browser.open(view);
    await page.go(URL_);
    await page.until("document.querySelectorAll('.spark canvas').length > 3");
    // Rates want a few samples, and charts their history. The picture must not
    // be of the seconds in which the demo's bad cable is unplugged.
    await sleep(12_000);
    await page.until("!document.querySelector('.node.bad')", 60);
    await sleep(1500);
    const bottom = upTo ? await page.run(`Math.round(document.querySelector(${JSON.stringify(upTo)}).getBoundingClientRect().bottom) + 20`) : view.height;
    const picture = await page.picture({ x: 0, y: 0, width: view.width, height: Math.min(bottom, view.height) });
    const file = new URL(`${name}.png`, DOCS);
    await writeFile(file, picture);
    console.log(`${fileURLToPath(file)}: ${Math.round(picture.length / 1000)} kB`);
    if (picture.length > max) throw new Error(`${name}.png is too large for a README: ${picture.length} bytes`);
  }
} finally {
  await browser.close();
}
