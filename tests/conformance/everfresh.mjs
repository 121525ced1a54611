// The built everfresh as all legs use it: a daemon on an empty folder of its own, and commands
// beside it. EVERFRESH_BIN names the binary.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, rmSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

/** A whole browser: it follows redirects, as people who are logged in at their provider do. */
const BROWSER = "curl -sSL -o /dev/null --max-time 10";

/** How long a command may take, in milliseconds. */
const COMMAND_MS = 40_000;

const run = promisify(execFile);

/** A table of the configuration file. JSON's texts, numbers and truths are TOML's as well. */
function table(name, entries) {
  const inline = (value) =>
    Array.isArray(value) || typeof value !== "object"
      ? JSON.stringify(value)
      : `{ ${Object.entries(value).map(([key, inner]) => `${key} = ${inline(inner)}`).join(", ")} }`;
  const lines = Object.entries(entries).map(([key, value]) => `${key} = ${inline(value)}\n`);
  return `[${name}]\n${lines.join("")}`;
}

/** A running daemon. */
export class Everfresh {
  #child;
  #folder;
  #environment;

  /** For a process that ends early: nothing is left behind. */
  #kill = () => {
    this.#child.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
  };

  /**
   * Starts a daemon whose configuration file has these tables, in a folder that dies with it.
   * `environment` is for secrets that the configuration names; `log` is where its log goes.
   */
  static async start(tables, { environment = {}, log } = {}) {
    const started = new Everfresh();
    started.#folder = await mkdtemp(join(tmpdir(), "everfresh-conformance-"));
    const all = { master_key: { keychain: false }, ...tables };
    const text = Object.entries(all).map(([name, entries]) => table(name, entries)).join("\n");
    await writeFile(join(started.#folder, "config.toml"), text);
    started.#environment = {
      ...process.env, ...environment, NO_COLOR: "1", NO_PROXY: "localhost,127.0.0.1",
      EVERFRESH_KEY: "", EVERFRESH_MASTER_KEY: "",
    };
    await started.#serve(log);
    return started;
  }

  async #serve(log) {
    const words = [...this.#common, "serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "debug"];
    this.#child = spawn(process.env.EVERFRESH_BIN, words, {
      stdio: ["ignore", "pipe", "pipe"], env: this.#environment,
    });
    process.once("exit", this.#kill);
    if (log) await mkdir(dirname(log), { recursive: true });
    if (log) this.#child.stderr.pipe(createWriteStream(log));
    else this.#child.stderr.resume();
    const lines = createInterface({ input: this.#child.stdout });
    const [line] = await Promise.race([once(lines, "line"), once(this.#child, "exit")]);
    if (!String(line).startsWith("listening on ")) throw new Error(`the daemon did not start: ${line}`);
  }

  get #common() {
    return ["--config", join(this.#folder, "config.toml"), "--data-dir", join(this.#folder, "data")];
  }

  /** Runs a command; what it printed. An exit code but 0 is an error with `code` and `stderr`. */
  async command(...words) {
    const options = { env: this.#environment, timeout: COMMAND_MS };
    const { stdout } = await run(process.env.EVERFRESH_BIN, [...this.#common, "--browser-cmd", BROWSER, ...words], options);
    return stdout;
  }

  /** How a client reaches `server`, under a name of this machine that the suite takes for local. */
  async url(server) {
    const url = new URL((await this.command("url", server)).trim());
    url.hostname = "localhost";
    return url;
  }

  /** Ends the daemon, and its folder with it. */
  async stop() {
    const ended = this.#child.exitCode ?? this.#child.signalCode ?? once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    await ended;
    process.off("exit", this.#kill);
    await rm(this.#folder, { recursive: true, force: true });
  }

}
