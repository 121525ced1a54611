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
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
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
const kill = ({ child }) => new Promise((resolve) => {
  if (child.exitCode !== null || child.signalCode !== null) resolve();
  child.once("exit", resolve);
  child.kill("SIGKILL");
});
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** The pid of the daemon that runs in the folder, whoever started it. */
const daemonPid = async () => JSON.parse(await readFile(join(folder, "data", "daemon.json"), "utf8")).pid;

/** A stdio client of `real`, counting what the bridge puts on stdout that is no message. */
async function stdioClient() {
  const transport = new StdioClientTransport({
    command: binary, args: [...common, "stdio", "real"], env: environment, stderr: "inherit",
  });
  const client = new Client({ name: "story", version: "1.0.0" });
  const seen = { errors: 0 };
  client.onerror = (error) => { seen.errors += 1; console.error("stdio:", error.message); };
  await client.connect(transport);
  return { client, transport, seen };
}

const add = async (client, a, b) => (await client.callTool({ name: "add", arguments: { a, b } })).content[0].text;

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

  const told = await run(python, ["client.py", "http", url.trim()], { timeout: 60_000 });
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

  const legacyUrl = (await everfresh("url", "real")).stdout.trim();
  await everfresh("--browser-cmd", browser, "add", "legacy", world.legacy);
  const legacy = new Client({ name: "story", version: "1.0.0" });
  await legacy.connect(new SSEClientTransport(new URL(legacyUrl.replace(/real$/, "legacy"))));
  assert.deepEqual((await legacy.listTools()).tools.map((tool) => tool.name), ["add"]);
  for (let n = 0; n < 10; n += 1) assert.equal(await add(legacy, n, 1), String(n + 1));
  const toldLegacy = await run(python, ["client.py", "sse", legacyUrl.replace(/real$/, "legacy")], { timeout: 60_000 });
  assert.match(toldLegacy.stdout, /add: 5/);
  await legacy.close();
  console.log("real: HTTP+SSE server of the official SDK: TypeScript and Python clients posted through the rewritten endpoint");

  const { client: spoken, seen: heard } = await stdioClient();
  assert.equal(await add(spoken, 1, 2), "3");
  const sessions = world.seen.sessions;
  await kill(running);
  // Nobody brings the daemon back: the bridge does, and the server's session goes on.
  const sums = await Promise.all([1, 2, 3, 4].map((n) => add(spoken, n, n)));
  assert.deepEqual(sums, ["2", "4", "6", "8"]);
  const pid = await daemonPid();
  process.kill(pid, "SIGKILL");
  for (let alive = true; alive;) {
    try { process.kill(pid, 0); await pause(0.02); } catch { alive = false; }
  }
  running = await daemon(`127.0.0.1:${port}`);
  assert.equal(await add(spoken, 20, 22), "42");
  assert.equal(world.seen.sessions, sessions, "one session through two deaths of the daemon");
  await spoken.close();
  assert.equal(heard.errors, 0, "nothing but messages on stdout");
  const toldStdio = await run(python, ["client.py", "stdio", binary, ...common, "stdio", "real"], { timeout: 60_000, env: environment });
  assert.match(toldStdio.stdout, /add: 5/);
  console.log("real: stdio clients of the official SDKs, TypeScript and Python: one session through two kills of the daemon");

  await everfresh("logout", "real");
  await assert.rejects(everfresh("token", "real"), (error) => error.code === 3);
  console.log("real: logged out; `token` exits with 3");
} finally {
  await kill(running);
  await daemonPid().then((pid) => process.kill(pid, "SIGKILL")).catch(() => null);
  world.stop();
  await rm(folder, { recursive: true, force: true });
}
const key = await readFile(config).catch(() => null);
assert.equal(key, null, "nothing is left behind");
console.log("real: 7 passed, 0 failed");
process.exit(0);
