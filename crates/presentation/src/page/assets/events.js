// The event stream, read with fetch: unlike EventSource it can resume in a new connection, tells a
// closed page from a daemon that is gone, and notices a stream that has fallen silent.

import { proof } from "./opened.js";
import { now, setClock } from "./time.js";

/** The daemon says something every 15 s, if only that it is alive. */
const SILENCE_MAX = 40_000;
/** A stream that ends before this counts as a failure, in ms. */
const STREAM_MIN = 1000;
/** Waits between attempts to reach it, in ms; the last one is repeated. */
const WAITS = [0, 300, 700, 1000, 2000];
/** A browser has six connections to one place: pages that nobody sees leave theirs after this. */
const HIDDEN_MAX = 60_000;

/** Listens for ever. `heard(name, data, id)` is told each event, `linked(state, since)` one of `live`, `gone`
 *  and `closed`: the last means that the page's cookie or proof is not known any more. `since` is when the daemon was
 *  last heard, in ms. */
export async function listen(heard, linked) {
  let last = "";
  let since = 0;
  for (let failures = 0; ; failures += 1) {
    await pause(WAITS[Math.min(failures, WAITS.length - 1)]);
    await seen();
    const connection = new AbortController();
    const unwatch = leaveWhenHidden(connection);
    let began = Infinity;
    try {
      const response = await connect(connection, last);
      if (response.status === 403) {
        linked("closed", since);
        continue;
      }
      if (!response.ok) throw new Error(`status ${response.status}`);
      began = now();
      setClock(response.headers.get("Date"));
      linked("live", since);
      for await (const { name, data, id } of messages(response.body, connection, () => { since = now(); })) {
        last = id || last;
        heard(name, JSON.parse(data), last);
      }
    } catch {
      // Whatever broke it, the next attempt tells.
    } finally {
      unwatch();
      connection.abort();
    }
    if (now() - began > STREAM_MIN) failures = -1;
    // The first failure may be a daemon that is just being started again.
    else if (failures > 0) linked("gone", since);
  }
}

function connect(connection, last) {
  const headers = last ? { ...proof(), "Last-Event-ID": last } : proof();
  return fetch("/events", { headers, signal: connection.signal, cache: "no-store" });
}

async function* messages(body, connection, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const silence = setTimeout(() => connection.abort(), SILENCE_MAX);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    alive();
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const message = parse(block);
      if (message.data) yield message;
    }
  }
}

/** One block of lines `field: value`; comments have no field. */
function parse(block) {
  const fields = { event: "message", data: "", id: "" };
  for (const line of block.split("\n")) {
    const [, field, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
    if (field === "data") fields.data += value;
    else if (field in fields) fields[field] = value;
  }
  return { name: fields.event, data: fields.data, id: fields.id };
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function seen() {
  if (!document.hidden) return null;
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

function leaveWhenHidden(connection) {
  let timer = 0;
  const watch = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => connection.abort(), HIDDEN_MAX);
  };
  document.addEventListener("visibilitychange", watch);
  watch();
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", watch);
  };
}
