// Fetches each server's last day: at first, after something has happened, and as time goes on for the cards
// that are seen; those first, and a few at a time.

import { timeline } from "./api.js";

/** The drawing moves with the hours; an older one is fetched anew. */
const AGE_MAX = 60_000;
/** What happened is followed by more, most of the time. */
const SETTLE = 300;
/** A browser has six connections to one place. */
const AT_ONCE = 2;

/** `told(name, timeline)` gets what was fetched. */
export function histories(told) {
  const seen = new Set();
  const fetched = new Map();
  const queue = new Set();
  let running = 0;
  const isOld = (name) => Date.now() - (fetched.get(name) ?? 0) > AGE_MAX;

  async function work() {
    if (running >= AT_ONCE) return;
    const name = [...queue].find((waiting) => seen.has(waiting)) ?? [...queue][0];
    if (!name) return;
    queue.delete(name);
    running += 1;
    fetched.set(name, Date.now());
    // A server that was just removed, or a daemon that is gone: the last drawing stays.
    await timeline(name).then((found) => told(name, found), () => {});
    running -= 1;
    work();
  }

  function want(name) {
    queue.add(name);
    setTimeout(work, SETTLE);
  }

  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      const name = target.dataset.name;
      if (!isIntersecting) seen.delete(name);
      else {
        seen.add(name);
        if (isOld(name)) want(name);
      }
    }
  });
  setInterval(() => {
    if (!document.hidden) for (const name of seen) if (isOld(name)) want(name);
  }, AGE_MAX / 4);

  return {
    watch: (element) => observer.observe(element),
    forget: (name) => { seen.delete(name); queue.delete(name); fetched.delete(name); },
    want,
  };
}
