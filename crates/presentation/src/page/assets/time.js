// Moments and durations in words, and the clock that keeps them true.

import { h } from "./dom.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A moment as the API writes it, within other words. */
const MOMENT = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;

/** How far the daemon's clock is ahead of the browser's, in ms. They differ only over a tunnel. */
let ahead = 0;

/** What the daemon's clock says, in ms. */
export const now = () => Date.now() + ahead;

/** Takes the daemon's time from a `Date` header, which has whole seconds. */
export function setClock(date) {
  const offset = Date.parse(date) - Date.now();
  ahead = Math.abs(offset) > 2 * SECOND ? offset : 0;
}

/** A duration in its two largest units: `1 h 5 min`. */
export function spell(ms) {
  if (ms < SECOND) return `${Math.round(ms)} ms`;
  if (ms < 2 * MINUTE) return `${Math.round(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.round(ms / MINUTE)} min`;
  const [large, small, words] = ms < DAY ? [HOUR, MINUTE, ["h", "min"]] : [DAY, HOUR, ["d", "h"]];
  const whole = Math.floor(ms / large);
  const rest = Math.floor((ms % large) / small);
  return rest ? `${whole} ${words[0]} ${rest} ${words[1]}` : `${whole} ${words[0]}`;
}

/** `in 12 min`, `3 h ago`. */
function relative(ms) {
  const distance = ms - now();
  if (Math.abs(distance) < SECOND) return "now";
  return distance > 0 ? `in ${spell(distance)}` : `${spell(-distance)} ago`;
}

/** The time of day, with the day where that is not today. */
export function clock(ms, seconds = false) {
  const date = new Date(ms);
  const today = date.toDateString() === new Date(now()).toDateString();
  const time = date.toLocaleTimeString([], { hour: "numeric", minute: "2-digit", second: seconds ? "2-digit" : undefined });
  return today ? time : `${date.toLocaleDateString([], { month: "short", day: "numeric" })}, ${time}`;
}

/** A full hour of the day: `6 PM`, `18`. */
export const hourOfDay = (date) => date.toLocaleTimeString([], { hour: "numeric" });

/** A moment with its day, for those who ask exactly. */
export const inFull = (ms) => new Date(ms).toLocaleString();

function moment(text, words, style) {
  const at = Date.parse(text);
  if (Number.isNaN(at)) return "–";
  return h("time", { datetime: text, title: inFull(at), "data-as": style }, words(at));
}

/** A moment as its distance, which ticks. */
export const distance = (text) => moment(text, relative, "distance");

/** A moment as the time of day. */
export const timeOfDay = (text) => moment(text, (at) => clock(at, true), "clock");

/** A sentence of the API with its moments in the reader's own time. */
export function localized(sentence) {
  const moments = sentence.match(MOMENT) ?? [];
  return sentence.split(MOMENT).map((words, index) => [words, index < moments.length && timeOfDay(moments[index])]);
}

/** The same, without elements. */
export const localizedText = (sentence) => sentence.replace(MOMENT, (text) => clock(Date.parse(text), true));

/** Keeps distances and bars true: each second while the page is seen. Nothing here is announced. */
export function tick(root) {
  if (document.hidden) return;
  for (const time of root.querySelectorAll("time[data-as=distance]")) {
    const words = relative(Date.parse(time.dateTime));
    if (time.firstChild.data !== words) time.firstChild.data = words;
  }
  for (const bar of root.querySelectorAll("[data-from]")) bar.style.setProperty("--spent", spent(bar.dataset.from, bar.dataset.to));
}

/** How much of the time between two moments is over, from 0 to 1. */
export function spent(from, to) {
  return Math.min(1, Math.max(0, (now() - from) / (to - from || 1)));
}
