// The last 24 hours of a server, as a drawing and as a sentence.

import { h } from "./dom.js";
import { clock, hourOfDay, spell } from "./time.js";

/** The drawing in its own units: minutes of a day across. */
const WIDTH = 1440;
const HEIGHT = 32;
/** What must not be overlooked is at least this wide. */
const SEEN = 6;
/** Attempts within so many units are one tick. */
const TICK = 4;

/** What is not a lack of a token, and shorter, is not worth a word, in ms. */
const TOLD = 10_000;

/** What is drawn for a state, and said of it. An unheard-of state is drawn as unknown. */
const STATES = {
  valid: { top: 12, height: 14, word: "valid token" },
  lapsed: { top: 2, height: 28, word: "without a valid token" },
  logged_out: { top: 12, height: 14, word: "logged out" },
  disabled: { top: 12, height: 14, word: "switched off" },
  off: { top: 18, height: 2, word: "everfresh was not running" },
  unknown: { top: 18, height: 2, word: "nothing recorded" },
};

const stateOf = (name) => (name in STATES ? name : "unknown");
const ms = (text) => Date.parse(text);

/** What the API tells of a server's past, with its moments as numbers. */
function read({ from, to, spans, outages, attempts }) {
  const until = (text) => (text ? ms(text) : ms(to));
  return {
    from: ms(from),
    to: ms(to),
    spans: spans.map((span) => ({ state: stateOf(span.state), from: ms(span.from), to: until(span.to) })),
    outages: outages.map((outage) => ({ ...outage, from: ms(outage.from), to: until(outage.to), lasts: !outage.to })),
    attempts: attempts.map((attempt) => ({ at: ms(attempt.at), failed: attempt.result === "failed" })),
  };
}

/** The drawing with its sentence below. */
export function timeline(told) {
  const past = read(told);
  const x = (at) => ((at - past.from) / (past.to - past.from)) * WIDTH;
  const sentence = words(past);
  return h("figure", { class: "past" },
    h("svg", { role: "img", "aria-label": `Last 24 hours: ${sentence}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" },
      past.spans.filter(({ state }) => state !== "lapsed").map((span) => block(span, x)),
      past.outages.map((outage) => band(outage, x)),
      ticks(past.attempts, x),
      past.spans.filter(({ state }) => state === "lapsed").map((span) => block(span, x))),
    hours(past, x),
    h("figcaption", { class: past.spans.some(({ state }) => state === "lapsed") ? "bad" : null }, sentence));
}

function block({ state, from, to }, x) {
  const { top, height, word } = STATES[state];
  const width = Math.max(x(to) - x(from), state === "lapsed" ? SEEN : 0);
  const title = `${word}, ${clock(from)} to ${clock(to)} (${spell(to - from)})`;
  return h("rect", { class: state, x: Math.min(x(from), WIDTH - width), y: top, width, height }, h("title", null, title));
}

function band({ from, to, reason, lasts }, x) {
  const width = Math.max(x(to) - x(from), SEEN);
  const title = `refreshes fail (${reason}) since ${clock(from)}${lasts ? "" : `, until ${clock(to)}`}`;
  return h("rect", { class: "outage", x: Math.min(x(from), WIDTH - width), y: 27, width, height: 5 }, h("title", null, title));
}

/** One line for each attempt, or for those too close to be told apart: failed if one of them did. */
function ticks(attempts, x) {
  const places = new Map();
  for (const { at, failed } of attempts) {
    const place = Math.round(x(at) / TICK) * TICK;
    places.set(place, places.get(place) || failed);
  }
  return [...places].sort(([a], [b]) => a - b).map(([place, failed]) =>
    h("line", { class: failed ? "tick failed" : "tick", x1: place, x2: place, y1: failed ? 0 : 4, y2: 11 }));
}

/** Every sixth hour below the drawing. */
function hours({ from, to }, x) {
  const first = new Date(from);
  first.setMinutes(0, 0, 0);
  const marks = [];
  for (const hour = first; hour.getTime() < to; hour.setHours(hour.getHours() + 1)) {
    const place = x(hour.getTime()) / WIDTH;
    if (hour.getHours() % 6 === 0 && place > 0.02 && place < 0.93) marks.push([place, hourOfDay(hour)]);
  }
  return h("div", { class: "hours", "aria-hidden": "true" },
    marks.map(([place, word]) => h("span", { vars: { "--at": place } }, word)), h("span", { class: "now" }, "now"));
}

function total(spans, state) {
  return spans.filter((span) => span.state === state).reduce((sum, { from, to }) => sum + to - from, 0);
}

/** Whether it was ever without a token, first; then how often it was refreshed. */
function words({ from, to, spans, outages, attempts }) {
  const said = [lapses(spans, to) ?? validity(spans, from)];
  for (const [state, word] of [["logged_out", "logged out"], ["disabled", "switched off"], ["off", "everfresh not running"]]) {
    const time = total(spans, state);
    if (time >= TOLD && !said.includes(word)) said.push(`${word} for ${spell(time)}`);
  }
  if (outages.some(({ lasts }) => lasts)) said.push("refreshes are failing");
  const failed = attempts.filter((attempt) => attempt.failed).length;
  const good = attempts.length - failed;
  const refreshes = (count) => `${count} ${count === 1 ? "refresh" : "refreshes"}`;
  if (good) said.push(refreshes(good) + (failed ? `, ${failed} failed` : ""));
  else if (failed) said.push(`${refreshes(failed)} failed`);
  return said.join("; ");
}

function lapses(spans, to) {
  const lapsed = spans.filter(({ state }) => state === "lapsed");
  if (!lapsed.length) return null;
  const last = lapsed.at(-1);
  const end = last.to >= to ? `since ${clock(last.from)}` : `last at ${clock(last.from)}`;
  const times = lapsed.length === 1 ? "" : ` in all, ${lapsed.length} times`;
  return `without a token for ${spell(Math.max(1000, total(spans, "lapsed")))}${times}, ${end}`;
}

function validity(spans, from) {
  const known = spans.filter(({ state }) => state !== "unknown" && state !== "off");
  if (!known.length) return "nothing recorded yet";
  if (known.every(({ state }) => state === "logged_out")) return "logged out";
  if (known.every(({ state }) => state === "disabled")) return "switched off";
  const begins = known[0].from;
  if (spans.every(({ state }) => state === "valid")) return "valid all of the last 24 hours";
  return begins > from ? `never without a token since ${clock(begins)}` : "never without a token";
}
