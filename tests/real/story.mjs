// The story: add and log in through a real provider, call through the proxy with real clients over
// several token lives, die and come back. Every step asserts; the first that fails ends it.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { start } from "./provider.mjs";

const TTL = 12;
const run = promisify(execFile);
const binary = process.env.EVERFRESH_BIN;
const python = process.env.PYTHON;
const folder = await mkdtemp(join(tmpdir(), "everfresh-real-"));
const config = join(folder, "config.toml");
await writeFile(config, '[refresh]\nmin_spacing = "1s"\n[master_key]\nkeychain = false\n');
const common = ["--config", config, "--data-dir", join(folder, "data")];
const environment = { ...process.env, NO_COLOR: "1", EVERFRESH_KEY: "", EVERFRESH_MASTER_KEY: "" };

async function daemon(listen) {
  const child = spawn(binary, [...common, "serve", "--log-format", "json", "--listen", listen], {
    stdio: ["ignore", "pipe", "inherit"], env: environment,
  });
  for await (const line of createInterface({ input: child.stdout })) {
    assert.match(line, /^listening on /);
    return { child, url: line.replace("listening on ", "") };
  }
  throw new Error("the daemon did not start");
}

const everfresh = (...words) => run(binary, [...common, ...words], { env: environment, timeout: 60_000 });
const kill = (running) => new Promise((resolve) => { running.child.once("exit", resolve); running.child.kill("SIGKILL"); });
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

const world = await start(TTL);
let running = await daemon("127.0.0.1:0");
try {
  const jar = join(folder, "cookies");
  const browser = `curl -sSL -o /dev/null --max-time 20 -b ${jar} -c ${jar}`;
  const added = await everfresh("--browser-cmd", browser, "add", "real", world.resource);
  assert.match(added.stdout, /logged in; it is kept fresh/);
  assert.equal(world.seen.registrations, 1);
  console.log(`real: logged in at oidc-provider (${world.issuer}) by discovery, registration, PKCE and resource indicator`);

  const { stdout: url } = await everfresh("url", "real");
  const client = new Client({ name: "story", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(new URL(url.trim())));
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name), ["add"]);
  const began = Date.now();
  let calls = 0;
  while (world.seen.refreshes < 2) {
    assert.ok(Date.now() - began < 4 * TTL * 1000, "two refreshes are due by now");
    const answer = await client.callTool({ name: "add", arguments: { a: calls, b: 1 } });
    assert.equal(answer.content[0].text, String(calls + 1));
    calls += 1;
    await pause(0.25);
  }
  assert.equal(world.seen.sessions, 1, "refreshes reset no session");
  assert.equal(world.seen.refused, 0);
  console.log(`real: official TypeScript client: ${calls} calls over ${world.seen.refreshes} refreshes in one session, none failed`);

  const told = await run(python, ["client.py", url.trim()], { timeout: 60_000 });
  assert.match(told.stdout, /add: 5/);
  console.log("real: official Python client: listed and called the tool");

  const port = new URL(running.url).port;
  await kill(running);
  const refreshed = world.seen.refreshes;
  await pause(TTL + 1);
  running = await daemon(`127.0.0.1:${port}`);
  const again = new Client({ name: "story", version: "1.0.0" });
  await again.connect(new StreamableHTTPClientTransport(new URL(url.trim())));
  const answer = await again.callTool({ name: "add", arguments: { a: 20, b: 22 } });
  assert.equal(answer.content[0].text, "42");
  assert.equal(world.seen.refreshes, refreshed + 1);
  assert.equal(world.seen.authorizations, 1, "one login in all");
  assert.equal(world.seen.refused, 0);
  console.log("real: killed, token ended, started again: one refresh, no login, the next call succeeded");

  await everfresh("logout", "real");
  await assert.rejects(everfresh("token", "real"), (error) => error.code === 3);
  console.log("real: logged out; `token` exits with 3");
} finally {
  await kill(running);
  world.stop();
  await rm(folder, { recursive: true, force: true });
}
const key = await readFile(config).catch(() => null);
assert.equal(key, null, "nothing is left behind");
console.log("real: 5 passed, 0 failed");
process.exit(0);
