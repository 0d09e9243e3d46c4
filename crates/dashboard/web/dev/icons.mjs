// Draws the PNG icons that phones want from public/icon.svg: `npm run icons`,
// after the SVG has changed. They are committed, so that a build needs no browser.

import { readFile, writeFile } from "node:fs/promises";
import { launch } from "./browser.mjs";
import { png } from "./png.mjs";

const PUBLIC = new URL("../public/", import.meta.url);

/** `bleed`: to the edges, since the phone cuts its own shape; `inside`: what it may not cut. */
const ICONS = [
  { name: "icon-192", size: 192 },
  { name: "icon-512", size: 512 },
  { name: "icon-maskable-512", size: 512, bleed: true, inside: 0.8 },
  { name: "apple-touch-icon", size: 180, bleed: true, inside: 0.9 },
];

const svg = await readFile(new URL("icon.svg", PUBLIC), "utf8");
const colour = /<rect[^>]* fill="(#\w+)"/.exec(svg)[1];
const browser = await launch();
try {
  const page = await browser.open({ width: 600, height: 600 });
  for (const { name, size, bleed, inside = 1 } of ICONS) {
    const pixels = await page.run(`(async () => {
      const image = new Image();
      image.src = "data:image/svg+xml;base64,${Buffer.from(svg).toString("base64")}";
      await image.decode();
      const context = new OffscreenCanvas(${size}, ${size}).getContext("2d");
      context.fillStyle = "${bleed ? colour : "transparent"}";
      context.fillRect(0, 0, ${size}, ${size});
      context.drawImage(image, ${(size * (1 - inside)) / 2}, ${(size * (1 - inside)) / 2}, ${size * inside}, ${size * inside});
      return [...context.getImageData(0, 0, ${size}, ${size}).data];
    })()`);
    const picture = png(size, size, pixels);
    await writeFile(new URL(`${name}.png`, PUBLIC), picture);
    console.log(`${name}.png: ${picture.length} bytes`);
  }
} finally {
  await browser.close();
}
