// A PNG with a palette (PNG specification, 11.2): an icon of two colours and
// the shades between them takes a third of what it takes with a colour for
// each pixel.

import { crc32, deflateSync } from "node:zlib";

/** Shades are rounded to multiples of this, of 255: less than a person sees. */
const STEP = 5;

function chunk(type, data) {
  const out = Buffer.alloc(data.length + 12);
  out.writeUInt32BE(data.length);
  out.write(type, 4, "latin1");
  data.copy(out, 8);
  out.writeUInt32BE(crc32(out.subarray(4, -4)), out.length - 4);
  return out;
}

/** @param pixels red, green, blue and alpha of each, row by row */
export function png(width, height, pixels) {
  const palette = new Map();
  const rows = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = 4 * (y * width + x);
      const colour = [0, 1, 2, 3].map((i) => Math.round(pixels[at + i] / STEP) * STEP);
      const key = colour.join();
      if (!palette.has(key)) palette.set(key, { place: palette.size, colour });
      rows[y * (width + 1) + 1 + x] = palette.get(key).place;
    }
  }
  if (palette.size > 256) throw new Error(`${palette.size} colours are more than a palette holds`);
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width);
  header.writeUInt32BE(height, 4);
  header.set([8, 3, 0, 0, 0], 8);
  const colours = [...palette.values()].map(({ colour }) => colour);
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk("IHDR", header),
    chunk("PLTE", Buffer.from(colours.flatMap((colour) => colour.slice(0, 3)))),
    chunk("tRNS", Buffer.from(colours.map((colour) => colour[3]))),
    chunk("IDAT", deflateSync(rows, { level: 9, memLevel: 9 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}
