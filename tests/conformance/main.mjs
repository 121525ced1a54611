// Runs the legs that are wanted, prints what came of them, and fails on any deviation.
//
//   node main.mjs [--leg client|server|front] [--scenario NAME]

import { rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { clientLeg } from "./client.mjs";
import { frontLeg, serverLeg } from "./server.mjs";

const [major] = process.versions.node.split(".");
if (Number(major) < 22) throw new Error(`the suite needs Node 22 or newer; this is ${process.versions.node}`);
const { values: wanted } = parseArgs({ options: { leg: { type: "string" }, scenario: { type: "string" } } });
const legs = { client: clientLeg, server: serverLeg, front: frontLeg };
const chosen = Object.entries(legs).filter(([name]) => !wanted.leg || name === wanted.leg);
const began = Date.now();
const rows = [];
for (const [name, leg] of chosen) {
  const out = join("out", name);
  await rm(out, { recursive: true, force: true });
  rows.push(...await leg(wanted.scenario, out, console.log));
}
if (rows.length === 0) throw new Error("no leg or no scenario is called that");
const failed = rows.flatMap((row) => row.failed);
const width = Math.max(...rows.map((row) => row.title.length));
console.log();
for (const row of rows) console.log(`${row.title.padEnd(width)}  ${row.result}`);
console.log(`in ${((Date.now() - began) / 1000).toFixed(0)} s`);
for (const text of failed) console.log(`DEVIATES ${text}`);
process.exit(failed.length === 0 ? 0 : 1);
