// Runs the tests of the page, one after the other, each in a world of its own: a provider, a daemon, and
// a fresh browser profile. Every step waits for what it wants to see, and for no longer than LIMIT.

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { access } from "./access.mjs";
import { closed } from "./closed.mjs";
import { live } from "./live.mjs";
import { looks } from "./looks.mjs";
import { browser, home, LIMIT, provider, watched } from "./world.mjs";

/** How long one test may take, in ms. */
const TEST_LIMIT = 120_000;

const wanted = process.argv[2] ?? "";
const chromium = await browser();
await mkdir("pictures", { recursive: true });

/** Everything that one test meets. */
async function stage() {
  const [world, place] = [await provider(), await home()];
  const daemon = await place.daemon();
  const context = await chromium.newContext({ viewport: { width: 1180, height: 820 } });
  context.setDefaultTimeout(LIMIT);
  const seen = watched(context, [daemon.url, world.issuer]);
  return {
    world, place, context, seen,
    running: daemon,
    url: daemon.url,
    /** The page, opened by a link of its own. */
    async open(link) {
      const page = await context.newPage();
      await page.goto(link ?? await this.running.link());
      return page;
    },
    /** Adds the protected server, and logs in as a browser does that is logged in at the provider. */
    async logIn(name = "demo", url = world.upstream) {
      await this.running.call("POST", "/api/v1/servers", { name, url });
      const { text } = await this.running.call("POST", `/api/v1/servers/${name}/login`);
      const end = await fetch(JSON.parse(text).authorization_url);
      assert.equal(end.status, 200);
    },
    restart: async function restart() {
      await this.running.kill();
      this.running = await place.daemon(daemon.port);
    },
    async end() {
      await context.close();
      await this.running.kill();
      world.stop();
      await place.remove();
    },
  };
}

/** What no test may leave behind: a request elsewhere, an error, a secret in the page's hands. */
async function inspect(set) {
  for (const page of set.context.pages().filter((page) => page.url().startsWith(set.url))) {
    const kept = await page.evaluate(() => JSON.stringify([
      document.documentElement.outerHTML, { ...localStorage }, { ...sessionStorage }, document.cookie,
    ]));
    set.seen.bodies.push(kept);
  }
  set.seen.bodies.push(await set.running.snapshot());
  const key = await set.place.key();
  for (const body of await Promise.all(set.seen.bodies)) {
    assert.ok(!body.includes(key), "the local key reached the page");
    assert.doesNotMatch(body, /(access|refresh|device|secret|code)-canary/, "a token reached the page");
  }
  assert.deepEqual(set.seen.breaches, []);
}

/** Fails where something takes longer than a whole test may. */
async function inTime(promise) {
  let timer = 0;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not within ${TEST_LIMIT} ms`)), TEST_LIMIT); });
  await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

let passed = 0;
const failed = [];
for (const [name, test] of [...live, ...closed, ...access, ...looks]) {
  if (!name.includes(wanted)) continue;
  const began = Date.now();
  const set = await stage();
  try {
    await inTime(test(set));
    await inTime(inspect(set));
    passed += 1;
    console.log(`page: ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed.push(name);
    console.error(`page: FAILED: ${name}\n${error.stack}\n${set.seen.breaches.join("\n")}`);
    await set.context.pages()[0]?.screenshot({ path: `pictures/failed-${failed.length}.png`, fullPage: true }).catch(() => null);
  } finally {
    await set.end();
  }
}
await chromium.close();
assert.ok(passed + failed.length > 0, `no test is called ${wanted}`);
console.log(`page: ${passed} passed, ${failed.length} failed`);
process.exit(failed.length ? 1 : 0);
