// The server legs: what the suite finds at a server, it must find through everfresh as well. Once
// as it is, and once with an authorization server in front whose tokens last two seconds.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Everfresh } from "./everfresh.mjs";
import { startFront } from "./front.mjs";
import { requirements, REVISIONS, serverScenarios } from "./suite.mjs";

const EVERYTHING = "node_modules/@modelcontextprotocol/server-everything/dist/index.js";

/** The servers, and how a process of each is started. */
const SERVERS = {
  "server-everything": ["--import", "./loopback.mjs", EVERYTHING, "streamableHttp"],
  fixture: ["fixture.mjs"],
};

/** Extensions that the fixture's SDK does not implement, and says so. */
const NOT_IN_FIXTURE = /^tasks-/;

/** everfresh guards itself against rebinding whether the server behind it does or not. */
const MAY_IMPROVE = new Set(["localhost-host-rebinding-rejected"]);

/** Refreshes so often that tokens of two seconds are always fresh. */
const QUICK = { threshold: 0.5, min_spacing: "100ms", hourly_budget: 100000 };

/** Starts a server; where it is, and how to end it. */
async function start(name) {
  const child = spawn(process.execPath, SERVERS[name], { stdio: ["ignore", "pipe", "ignore"] });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const port = await new Promise((resolve, reject) => {
    child.once("exit", () => reject(new Error(`${name} did not start`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const [, told] = /^listening on (\d+)$/.exec(line) ?? [];
      if (told) resolve(told);
    });
  });
  const stop = async () => {
    process.off("exit", kill);
    kill();
    await once(child, "exit");
  };
  return { url: new URL(`http://localhost:${port}/mcp`), stop };
}

/**
 * How often each (scenario, check, status) was found. What is only noted, and not judged, counts
 * once: how many events a stream is cut into is up to the moment.
 */
function tally(checks) {
  const found = new Map();
  for (const { scenario, id, status } of checks) {
    const key = `${scenario} ${id} ${status}`;
    found.set(key, status === "INFO" ? 1 : (found.get(key) ?? 0) + 1);
  }
  return found;
}

const sum = (found) => [...found.values()].reduce((total, count) => total + count, 0);

/** What differs between two runs, in words, and how many checks are the same. */
function compare(direct, through) {
  const [expected, found] = [tally(direct), tally(through)];
  const differing = [];
  let [identical, improved] = [0, 0];
  for (const key of new Set([...expected.keys(), ...found.keys()])) {
    const [before, after] = [expected.get(key) ?? 0, found.get(key) ?? 0];
    identical += Math.min(before, after);
    const [, id] = key.split(" ");
    const isBetter = MAY_IMPROVE.has(id) && key.endsWith(after > before ? "SUCCESS" : "FAILURE");
    if (isBetter) improved += Math.max(0, after - before);
    else if (before !== after) differing.push(`${key}: ${before} direct, ${after} through everfresh`);
  }
  return { of: sum(expected), identical, improved, differing };
}

/** Runs a server's scenarios direct and through everfresh, each against a process of its own. */
async function differential({ name, revision, scenario, out, tables, hasFront }) {
  const [alone, behind] = await Promise.all([start(name), start(name)]);
  const front = hasFront ? await startFront(behind.url) : { url: behind.url, stop() {} };
  const everfresh = await Everfresh.start(
    { ...tables, "servers.it": { url: front.url.href } },
    { log: join(out, "everfresh.log") },
  );
  try {
    const url = await everfresh.url("it");
    if (hasFront) await firstLogin(url, everfresh);
    const [direct, through] = await Promise.all([
      serverScenarios(alone.url, revision, scenario, join(out, "direct")),
      serverScenarios(url, revision, scenario, join(out, "through")),
    ]);
    return { direct, ...compare(direct, through), counts: front.counts };
  } finally {
    await everfresh.stop();
    front.stop();
    await Promise.all([alone.stop(), behind.stop()]);
  }
}

/** The one call that is made without a token, and what a person does then. */
async function firstLogin(url, everfresh) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" });
  const headers = { "content-type": "application/json", accept: "application/json, text/event-stream" };
  const answer = await (await fetch(url, { method: "POST", headers, body })).json();
  if (answer.error?.data?.action !== "login") throw new Error(`no login was asked for: ${JSON.stringify(answer)}`);
  await everfresh.command("login", "it");
}

/** What the front must have counted, in words where it did not. */
function miscounted(counts) {
  const expected = { registrations: 1, authorizations: 1, reuses: 0, refusals: 0, unauthorized: 1 };
  return Object.entries(expected)
    .filter(([what, count]) => counts[what] !== count)
    .map(([what, count]) => `${counts[what]} ${what} where ${count} must be`);
}

/** A row of the result for each server and revision. */
async function leg(title, only, out, say, { tables = {}, hasFront = false }) {
  const rows = [];
  for (const name of Object.keys(SERVERS)) {
    for (const revision of REVISIONS) {
      if (only && !(await requirements(revision)).server.includes(only)) continue;
      const place = join(out, name, revision);
      const run = await differential({ name, revision, scenario: only, out: place, tables, hasFront });
      const { direct, of, identical, improved, differing, counts } = run;
      const succeeded = direct.filter((check) => check.status === "SUCCESS").length;
      const failed = [...differing, ...(counts ? miscounted(counts) : [])];
      if (direct.length === 0) failed.push("no check was made");
      if (name === "fixture") {
        const bad = direct.filter((check) => check.status === "FAILURE" && !NOT_IN_FIXTURE.test(check.scenario));
        failed.push(...bad.map((check) => `the fixture itself fails ${check.scenario} ${check.id}: ${check.errorMessage}`));
      }
      const counted = counts ? `; ${Object.entries(counts).map(([what, count]) => `${count} ${what}`).join(", ")}` : "";
      const better = improved > 0 ? `, ${improved} better` : "";
      say(`${title} ${name} ${revision}: ${failed.length === 0 ? "identical" : "DIFFERENT"}`);
      rows.push({
        title: `${title} ${name} ${revision}`,
        result: `${identical} of ${of} checks identical${better} (${succeeded} succeed)${counted}`,
        failed: failed.map((text) => `${title} ${name} ${revision}: ${text}`),
      });
    }
  }
  return rows;
}

/** As it is. */
export const serverLeg = (only, out, say) => leg("server", only, out, say, {});

/** With tokens of two seconds in front. */
export const frontLeg = (only, out, say) => leg("front", only, out, say, { tables: { refresh: QUICK }, hasFront: true });
