// The official suite, run as its users run it, and what it found.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { parse } from "yaml";

const SUITE = "node_modules/@modelcontextprotocol/conformance";

/** The revisions whose frozen requirement sets are run. */
export const REVISIONS = ["2025-11-25", "2026-07-28"];

/** How long one scenario may take on a loaded machine, in milliseconds. */
const TIMEOUT_MS = 90_000;

/** What a revision requires of each role, and what the suite runs beside it. */
export async function requirements(revision) {
  const set = parse(await readFile(join(SUITE, "requirements", `${revision}.yaml`), "utf8"));
  const beside = (leg, ...reasons) =>
    set.not_scored.filter((entry) => entry.leg === leg && reasons.includes(entry.reason)).map((entry) => entry.scenario);
  return {
    client: [...set.client, ...beside("client", "added-after-release")],
    server: [...set.server, ...beside("server", "added-after-release", "extension", "pending")],
    extensions: beside("client", "extension"),
  };
}

/** The suite starts our driver by name: with the Node that runs this. */
const PATH = [dirname(process.execPath), process.env.PATH].join(delimiter);

/** Runs the suite with what it prints kept in `out`; its exit code. */
async function suite(words, out, environment = {}) {
  await mkdir(out, { recursive: true });
  const told = createWriteStream(join(out, "suite.txt"));
  const child = spawn(process.execPath, [join(SUITE, "dist/index.js"), ...words, "-o", out], {
    stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...environment, PATH, NO_COLOR: "1" },
  });
  child.stdout.pipe(told, { end: false });
  child.stderr.pipe(told, { end: false });
  const [code] = await once(child, "close");
  told.end();
  return code;
}

/** The checks of every run below `out`, with the scenario's name as the suite writes it. */
async function checksBelow(out) {
  const files = await readdir(out, { recursive: true });
  const found = files.filter((file) => file.endsWith("checks.json")).map(async (file) => {
    const scenario = file.replaceAll("\\", "/").replace(/-\d{4}-\d\d-\d\dT[\d-]+Z\/checks\.json$/, "");
    const checks = JSON.parse(await readFile(join(out, file), "utf8"));
    return checks.map((check) => ({ scenario, ...check }));
  });
  return (await Promise.all(found)).flat();
}

/**
 * Runs one client scenario with our driver as the client. What is wrong with it, in words; nothing
 * where every check is good.
 */
export async function clientScenario(scenario, revision, out) {
  const words = ["client", "--command", "node driver.mjs", "--scenario", scenario, "--spec-version", revision];
  const code = await suite([...words, "--force", "--timeout", String(TIMEOUT_MS)], out, {
    EVERFRESH_LOG_FILE: join(out, "everfresh.log"),
  });
  const checks = await checksBelow(out);
  const wrong = checks
    .filter((check) => check.status === "FAILURE" || check.status === "WARNING")
    .map((check) => `${check.status} ${check.id}: ${check.errorMessage ?? check.description}`);
  if (!checks.some((check) => check.status === "SUCCESS")) wrong.push("no check succeeded");
  if (code !== 0 && wrong.length === 0) wrong.push(`the suite ended with ${code}; see ${join(out, "suite.txt")}`);
  return { passed: checks.filter((check) => check.status === "SUCCESS").length, wrong };
}

/** Runs what a revision requires of a server, or one scenario of it, against `url`; its checks. */
export async function serverScenarios(url, revision, scenario, out) {
  const wanted = scenario ? ["--scenario", scenario, "--spec-version", revision] : ["--requirements", revision];
  await suite(["server", "--url", String(url), ...wanted, "--timeout", String(TIMEOUT_MS)], out);
  const checks = await checksBelow(out);
  return checks.map((check) => ({ ...check, scenario: check.scenario.replace(/^server-/, "") }));
}
