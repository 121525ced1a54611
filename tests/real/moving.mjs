// Moving in: mcp-remote, in the versions whose folders differ, logs in at the real provider, and its
// login moves to everfresh. The provider rotates refresh tokens and ends a login whose spent token
// comes again. Every step asserts; the first that fails ends it.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { start } from "./provider.mjs";

const TTL = 12;
const VERSIONS = ["0.1", "0.15"];
const run = promisify(execFile);
const binary = process.env.EVERFRESH_BIN;
const folder = await mkdtemp(join(tmpdir(), "everfresh-moving-"));
const config = join(folder, "config.toml");
await writeFile(config, '[refresh]\nmin_spacing = "1s"\n[master_key]\nkeychain = false\n');
const common = ["--config", config, "--data-dir", join(folder, "data")];
const jar = join(folder, "cookies");
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** What mcp-remote and everfresh see as the user's home folder. */
const home = (version) => join(folder, `home-${version}`);
const environment = (version) => ({
  ...process.env, NO_COLOR: "1", EVERFRESH_KEY: "", EVERFRESH_MASTER_KEY: "", HOME: home(version),
  XDG_CONFIG_HOME: join(home(version), ".config"), MCP_REMOTE_CONFIG_DIR: "", DISPLAY: "",
});

async function everfresh(version, ...words) {
  const ended = await run(binary, [...common, ...words], { env: environment(version), timeout: 90_000 })
    .catch((error) => ({ ...error, code: error.code }));
  return { code: ended.code ?? 0, stdout: ended.stdout, stderr: ended.stderr };
}

/** mcp-remote as a client starts it. `call` is one tool call; `wanted` the URL of a login that it asks for. */
function remote(version, url) {
  const program = join("node_modules", `mcp-remote-${version}`, "dist", "proxy.js");
  const child = spawn("node", [program, url], { env: environment(version), stdio: ["pipe", "pipe", "pipe"] });
  const told = { log: "", wanted: null };
  const answers = new Map();
  createInterface({ input: child.stdout }).on("line", (line) => {
    const message = JSON.parse(line);
    answers.get(message.id)?.(message);
  });
  createInterface({ input: child.stderr }).on("line", (line) => {
    told.log += `${line}\n`;
    const url = line.match(/https?:\/\/\S+\/auth\?\S+/);
    if (url) told.wanted = url[0];
  });
  let last = 0;
  const send = (message) => child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  const ask = (method, params) => new Promise((resolve) => {
    last += 1;
    answers.set(last, resolve);
    send({ id: last, method, params });
  });
  const begin = async () => {
    await ask("initialize", { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "m", version: "1" } });
    send({ method: "notifications/initialized" });
  };
  const stop = () => new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once("exit", resolve);
    child.kill("SIGTERM");
    return undefined;
  });
  return { told, ask, begin, stop, child };
}

const until = async (what, look) => {
  for (const end = Date.now() + 40_000; Date.now() < end; await pause(0.1)) {
    const seen = await look();
    if (seen) return seen;
  }
  throw new Error(`never: ${what}`);
};

/** Logs in with mcp-remote, and calls a tool with it. */
async function logIn(version, url) {
  const client = remote(version, url);
  const begun = client.begin();
  const page = await until(`mcp-remote ${version} asks for a login`, () => client.told.wanted);
  await run("curl", ["-sSL", "-o", "/dev/null", "--max-time", "20", "-b", jar, "-c", jar, page]);
  await begun;
  const answer = await client.ask("tools/call", { name: "add", arguments: { a: 2, b: 3 } });
  assert.equal(answer.result.content[0].text, "5");
  await client.stop();
}

async function files(version, ending) {
  const names = await readdir(join(home(version), ".mcp-auth"), { recursive: true });
  return names.filter((name) => name.endsWith(ending));
}

const world = await start(TTL);
const daemon = spawn(binary, [...common, "serve", "--log-format", "json", "--listen", "127.0.0.1:0"], {
  stdio: ["ignore", "pipe", "inherit"], env: environment("daemon"),
});
await new Promise((resolve) => createInterface({ input: daemon.stdout }).once("line", resolve));
try {
  for (const version of VERSIONS) {
    await mkdir(home(version), { recursive: true });
    const name = `v${version}`;
    await logIn(version, world.resource);
    const [kept] = await files(version, "_tokens.json");
    const refreshes = world.seen.refreshes;
    const listed = JSON.parse((await everfresh(version, "import", "mcp-remote", "--url", world.resource, "--dry-run", "-o", "json")).stdout);
    assert.equal(listed.logins.length, 1);
    assert.equal(world.seen.refreshes, refreshes, "a dry run sends nothing");
    const moved = await everfresh(version, "import", "mcp-remote", "--url", world.resource, "--name", name);
    assert.equal(moved.code, 0, moved.stdout + moved.stderr);
    assert.match(moved.stdout, /imported and refreshed/);
    assert.match(moved.stdout, /is dead/);
    assert.equal(world.seen.refreshes, refreshes + 1);
    assert.deepEqual(await files(version, "_tokens.json"), []);
    assert.deepEqual(await files(version, "moved-to-everfresh"), [`${kept}.moved-to-everfresh`]);
    const token = await everfresh(version, "token", name);
    assert.equal(token.code, 0, token.stderr);

    // The old program has nothing to spend: it asks for a login of its own.
    const again = remote(version, world.resource);
    again.begin();
    await until("mcp-remote asks for a login", () => again.told.wanted);
    await again.stop();
    const after = world.seen.refreshes;
    await until("everfresh keeps it fresh", () => world.seen.refreshes > after);
    assert.equal(world.seen.refused, 0, "no spent token came again");
    assert.equal((await everfresh(version, "token", name)).code, 0);
    console.log(`moving: a login of mcp-remote ${version} (${kept}) moved in, was refreshed, and is kept fresh; its copy is disarmed`);
    await everfresh(version, "disable", name);
  }

  // What disarming is for: a copy that is left and used ends the login.
  const version = "0.15";
  await logIn(version, world.resource);
  const kept = await everfresh(version, "import", "mcp-remote", "--url", world.resource, "--name", "kept", "--keep-source");
  assert.equal(kept.code, 0, kept.stdout + kept.stderr);
  const second = await everfresh(version, "import", "mcp-remote", "--url", world.resource, "--name", "second", "--keep-source", "-o", "json");
  assert.equal(JSON.parse(second.stdout).logins[0].outcome, "already_here", "it is not moved twice");
  const old = remote(version, world.resource);
  old.begin();
  await until("the old copy is used and refused", () => world.seen.refused > 0);
  await old.stop();
  await until("the login that moved is ended by it", async () => (await everfresh(version, "refresh", "kept")).code === 3);
  console.log("moving: with --keep-source, the old program's use of its copy ended the login that had moved, as the import says");
} finally {
  await new Promise((resolve) => { daemon.once("exit", resolve); daemon.kill("SIGTERM"); });
  world.stop();
  await rm(folder, { recursive: true, force: true });
}
console.log("moving: 3 passed, 0 failed");
process.exit(0);
