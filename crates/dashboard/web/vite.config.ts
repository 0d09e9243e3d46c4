import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

/** Writes `x.gz` beside every file that shrinks, for the binary to embed. */
function pack(): Plugin {
  return {
    name: "pack",
    apply: "build",
    closeBundle() {
      for (const entry of readdirSync("dist", { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || entry.name.endsWith(".gz")) continue;
        const file = join(entry.parentPath ?? entry.path, entry.name);
        const plain = readFileSync(file);
        const packed = gzipSync(plain, { level: 9 });
        if (packed.length < plain.length * 0.9) writeFileSync(`${file}.gz`, packed);
      }
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [pack()],
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    target: "es2021",
    // Nothing becomes a data: URI, which the strict policy would block.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  // `npm run dev` shows the page of a gateway, or of `npm run mock`, that runs already.
  server: { proxy: { "/api": { target: "http://127.0.0.1:8080", ws: true }, "/healthz": "http://127.0.0.1:8080" } },
});
