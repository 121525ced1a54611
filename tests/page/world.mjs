// What the page meets in these tests: the real daemon, a provider that can be taken away, and a real
// browser that is watched.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const run = promisify(execFile);
const binary = process.env.EVERFRESH_BIN;
const environment = { ...process.env, NO_COLOR: "1", EVERFRESH_KEY: "", EVERFRESH_MASTER_KEY: "", DBUS_SESSION_BUS_ADDRESS: "" };

/** Access tokens live this long, in seconds: refreshes are seen, and do not race the clicks. */
export const LIFETIME = 12;
/** How long anything may take, in ms. */
export const LIMIT = 20_000;

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

export const browser = () => chromium.launch({ executablePath: process.env.CHROMIUM, args: FLAGS, headless: true });

const running = new Set();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** A program whose lines are read one by one. */
function program(path, args, stdio) {
  const child = spawn(path, args, { stdio, env: environment });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    child,
    line: async () => {
      const { value, done } = await lines.next();
      assert.ok(!done, `${path} ended`);
      return value;
    },
  };
}

/** The provider and the protected server. */
export async function provider() {
  const { child, line } = program(process.env.PROVIDER_BIN, [], ["pipe", "pipe", "inherit"]);
  const { provider: issuer, upstream } = JSON.parse(await line());
  const tell = async (word) => {
    child.stdin.write(`${word}\n`);
    assert.equal(await line(), word);
  };
  const admin = async (method, what, change) => {
    const answer = await fetch(`${issuer}/admin/${what}`, { method, body: change && JSON.stringify(change) });
    assert.ok(answer.ok, `${what}: ${answer.status} ${answer.ok || await answer.text()}`);
    return answer.status === 204 ? null : answer.json();
  };
  const alter = async (what, part) => admin("PUT", what, { ...await admin("GET", what), ...part });
  await alter("behaviour", { access_lifetime: { secs: LIFETIME, nanos: 0 } });
  return {
    issuer,
    upstream,
    down: () => tell("down"),
    up: () => tell("up"),
    approve: () => tell("approve"),
    switches: (part) => alter("switches", part),
    behaviour: (part) => alter("behaviour", part),
    post: (what) => admin("POST", what),
    stop: () => child.kill("SIGKILL"),
  };
}

/** A folder for one daemon after the other. */
export async function home() {
  const folder = await mkdtemp(join(tmpdir(), "everfresh-page-"));
  const [config, data] = [join(folder, "config.toml"), join(folder, "data")];
  const settings = 'min_spacing = "500ms"\nbackoff_base = "500ms"\nbackoff_cap = "1s"\nhourly_budget = 10000';
  await writeFile(config, `[refresh]\n${settings}\n[master_key]\nkeychain = false\n`);
  const common = ["--config", config, "--data-dir", data];
  return {
    remove: () => rm(folder, { recursive: true, force: true }),
    key: async () => (await readFile(join(data, "local-key"), "utf8")).trim(),
    /** The next daemon makes another local key. */
    newKey: () => rm(join(data, "local-key")),
    everfresh: (...words) => run(binary, [...common, ...words], { env: environment, timeout: LIMIT }),
    async daemon(port = 0) {
      const { child, line } = program(binary, [...common, "serve", "--log-format", "json", "--log-level", "error", "--listen", `127.0.0.1:${port}`], ["ignore", "pipe", "inherit"]);
      const said = await line();
      assert.match(said, /^listening on /);
      const url = said.replace("listening on ", "");
      const key = (await readFile(join(data, "local-key"), "utf8")).trim();
      /** By hand: `fetch` sends no cookie, and says itself where it comes from. */
      const send = async (method, path, headers) => {
        const [answer] = await once(request(url + path, { method, headers }).end(), "response");
        return { status: answer.statusCode, text: (await answer.setEncoding("utf8").toArray()).join("") };
      };
      const call = async (method, path, body) => {
        const headers = { "x-everfresh-key": key, "content-type": "application/json" };
        const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
        return { status: answer.status, headers: answer.headers, text: await answer.text() };
      };
      return {
        url,
        port: Number(new URL(url).port),
        key,
        call,
        send,
        /** What the event stream begins with. */
        async snapshot() {
          const { body } = await fetch(`${url}/events`, { headers: { "x-everfresh-key": key } });
          const reader = body.getReader();
          const { value } = await reader.read();
          await reader.cancel();
          return new TextDecoder().decode(value);
        },
        link: async () => JSON.parse((await call("POST", "/api/v1/page-link")).text).url,
        server: async (name) => JSON.parse((await call("GET", `/api/v1/servers/${name}`)).text),
        async kill() {
          const ended = child.exitCode ?? child.signalCode ?? once(child, "exit");
          child.kill("SIGKILL");
          await ended;
        },
      };
    },
  };
}

/** What a page did that it must not: requests to other places, errors, breaches of its policy. `allowed`
 *  are the origins that it may be sent to. */
export function watched(context, allowed) {
  const found = { allowed, breaches: [], bodies: [], expectedErrors: [] }; // bodies: of answers, as promises
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && url.protocol !== "about:" && !allowed.includes(url.origin)) found.breaches.push(`request to ${url.origin}`);
  });
  context.on("response", (response) => {
    const kind = response.headers()["content-type"] ?? "";
    if (!kind.startsWith("text/event-stream")) found.bodies.push(response.text().catch(() => ""));
  });
  context.on("console", (message) => {
    const text = message.text();
    if (message.type() === "error" && !found.expectedErrors.some((words) => words.test(text))) found.breaches.push(`console: ${text}`);
  });
  context.on("weberror", (error) => found.breaches.push(`error: ${error.error().message} ${error.error().stack}`));
  return found;
}
