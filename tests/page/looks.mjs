// Pictures to be looked at, in target/page/pictures, and the page's weight.

import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { everyState, shown, wellState } from "./fixture.mjs";

/** Bytes that a first visit may cost, uncompressed. */
const WEIGHT_MAX = 80_000;

async function picture(page, name, fullPage = true) {
  for (const [look, width] of [["wide", 1180], ["narrow", 360]]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 820 });
      await page.evaluate(() => document.fonts.ready);
      await page.screenshot({ path: `pictures/${name}-${look}-${colorScheme}.png`, fullPage });
    }
  }
}

async function looksLikeThis(set) {
  const empty = await set.open();
  await empty.getByRole("heading", { name: "No server yet" }).waitFor();
  await picture(empty, "empty");
  await empty.close();
  await shown(set.context, everyState());
  const page = await set.open();
  await page.setViewportSize({ width: 1180, height: 4000 });
  await page.locator("#server-zapier .past").waitFor();
  await picture(page, "every-state");
  await page.emulateMedia({ forcedColors: "active" });
  await picture(page, "forced-colors");
  await page.emulateMedia({ forcedColors: "none" });
  await page.getByRole("button", { name: "Connect: linear", exact: true }).click();
  await page.getByRole("button", { name: "Journal: notion", exact: true }).click();
  await page.getByRole("button", { name: "Details: asana", exact: true }).click();
  await page.getByRole("table").waitFor();
  await picture(page, "panels");
  await page.getByRole("button", { name: "Add server", exact: true }).click();
  await page.getByRole("dialog").waitFor();
  await picture(page, "form", false);
}

async function looksWell(set) {
  await shown(set.context, wellState());
  const page = await set.open();
  await page.locator("#server-linear .past").waitFor();
  await picture(page, "well");
}

async function weighsLittle(set) {
  const files = new Map();
  set.context.on("response", async (response) => {
    const url = new URL(response.url());
    if (url.pathname === "/" || url.pathname.startsWith("/page/")) files.set(url.pathname, await response.body().catch(() => Buffer.alloc(0)));
  });
  const page = await set.open();
  await page.getByRole("heading", { name: "No server yet" }).waitFor();
  await page.waitForLoadState("load");
  const total = (weigh) => [...files.values()].reduce((sum, body) => sum + weigh(body), 0);
  const [plain, zipped] = [total((body) => body.length), total((body) => gzipSync(body).length)];
  console.log(`  weight: ${files.size} files, ${plain} bytes, ${zipped} if they were gzipped`);
  assert.ok(files.has("/") && files.has("/page/app.js") && files.has("/page/page.css"));
  assert.ok(plain < WEIGHT_MAX, `the page weighs ${plain} bytes`);
  const [script] = await Promise.all([page.waitForResponse("**/page/app.js"), page.reload()]);
  assert.equal(script.status(), 304, "a second visit costs nothing");
}

export const looks = [
  ["pictures of every state", looksLikeThis],
  ["pictures of a day without trouble", looksWell],
  ["it weighs little", weighsLittle],
];
