// Builds the dashboard into the package, with the hash of what it was built of (tests/architecture/test_dashboard_built.py).
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const OUTPUT = "../polpod/services/web/static";

/** The files that the output is made of, by path, as the test lists them. */
function sources(): string[] {
  const found = readdirSync("src", { recursive: true, withFileTypes: true });
  const files = found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return [...files, "index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"].sort();
}

/** Writes `built-from`: the SHA-256 of each source's path and content, each ended by a NUL; then that of each file made. */
const builtFrom: Plugin = {
  name: "built-from",
  writeBundle(_, bundle) {
    const hash = createHash("sha256");
    for (const path of sources()) hash.update(`${path}\0`).update(readFileSync(path)).update("\0");
    const made = Object.keys(bundle).sort().map((path) => {
      return `${createHash("sha256").update(readFileSync(join(OUTPUT, path))).digest("hex")}  ${path}\n`;
    });
    writeFileSync(join(OUTPUT, "built-from"), [`${hash.digest("hex")}\n`, ...made].join(""));
  },
};

export default defineConfig({
  base: "./", // wherever a proxy puts it
  plugins: [builtFrom],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: OUTPUT,
    emptyOutDir: true,
    assetsInlineLimit: 0, // data: URLs of scripts and styles would be refused by the Content-Security-Policy
    modulePreload: { polyfill: false },
    target: "es2022",
  },
});
