// One server: how it is, what to do, its token's life, its last day, and what else there is to know.

import { h } from "./dom.js";
import { panel, PANELS } from "./panels.js";
import { canSwitch, isUnattended, levelOf, nameOf } from "./server.js";
import { distance, inFull, localized, now, spent, timeOfDay } from "./time.js";
import { timeline } from "./timeline.js";
import { waiting } from "./waiting.js";

/** Where in its life a token is refreshed, unless configured otherwise. */
const REFRESH_POINT = 0.8;

/** A word and a shape for each level, so that neither colour nor sight is needed. */
const LEVELS = {
  healthy: ["Healthy", "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Zm3.3 4.6L7 9.9 4.8 7.7l-1.1 1.1L7 12.1l5.4-5.4Z"],
  degraded: ["Degraded", "M8 1.2 15.6 14.5H.4ZM7.2 6v4.3h1.6V6Zm0 5.5v1.6h1.6v-1.6Z"],
  unhealthy: ["Unhealthy", "M5 1h6l4 4v6l-4 4H5l-4-4V5Zm.7 3.6L4.6 5.7 6.9 8l-2.3 2.3 1.1 1.1L8 9.1l2.3 2.3 1.1-1.1L9.1 8l2.3-2.3-1.1-1.1L8 6.9Z"],
  disabled: ["Disabled", "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Zm0 1.6a5.4 5.4 0 1 0 0 10.8A5.4 5.4 0 0 0 8 2.6ZM4.8 7.2h6.4v1.6H4.8Z"],
};

function levelMark(level) {
  const [word, path] = LEVELS[level] ?? LEVELS.degraded;
  return h("span", { class: `level ${level}` },
    h("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, h("path", { d: path, "fill-rule": "evenodd" })), word);
}

export function card(server, own, actions) {
  const name = nameOf(server);
  const level = levelOf(server);
  const id = `server-${name}`;
  return h("article", { class: `card ${level}`, id, tabindex: "-1", "aria-labelledby": `${id}-name`, "data-name": name, made: actions.watch },
    h("header", null,
      levelMark(level),
      h("h2", { id: `${id}-name` }, name),
      h("span", { class: "url", title: server.url }, server.url),
      h("div", { class: "actions" }, buttons(server, own, actions))),
    h("p", { class: "summary" }, localized(server.health.summary), " ",
      server.health.reason !== "ok" && h("a", { class: "reason", href: `/help#${server.health.reason}`, "aria-label": `Help on ${server.health.reason}` }, server.health.reason)),
    server.health.detail && h("p", { class: "detail" }, localized(server.health.detail)),
    needed(server),
    waiting(name, server, own, actions),
    own.notice && h("p", { class: "notice error", role: "alert" },
      h("span", null, own.notice.text),
      h("button", { type: "button", class: "quiet", "aria-label": `Dismiss: the message on ${name}`, onclick: () => actions.dismiss(name) }, "Dismiss")),
    h("div", { class: "gauges" },
      h("section", { class: "gauge" }, h("h3", null, "Access token"), life(server)),
      own.timeline && h("section", { class: "gauge" }, h("h3", null, "Last 24 hours"), timeline(own.timeline))),
    h("div", { class: "switches" }, PANELS.map(([key, title]) => {
      const open = own.panel === key;
      return h("button", {
        type: "button", class: "switch", "aria-expanded": String(open), "aria-controls": open ? `${id}-panel` : null,
        "aria-label": `${title}: ${name}`, onclick: () => actions.open(name, open ? null : key),
      }, title);
    })),
    own.panel && panel(own.panel, { id: `${id}-panel`, name, server, own, actions }));
}

/** What health asks for comes first; a refresh is always at hand where there is something to refresh. */
function buttons(server, own, actions) {
  const name = nameOf(server);
  const { action, admin_state: state } = server.health;
  const button = (key, text, main) => h("button", {
    key, type: "button", class: main ? "main" : null, "aria-disabled": own.busy?.has(key) && "true", "aria-label": `${text}: ${name}`,
    onclick: () => actions.run(name, key),
  }, own.busy?.has(key) ? `${text} …` : text);
  if (state === "disabled") return canSwitch(server) ? [button("enable", "Enable", true)] : [];
  const found = [];
  if (action === "login" && !server.login.pending) found.push(button("login", "Log in", server.health.level !== "healthy"));
  if (action === "view_logs") {
    found.push(h("button", { key: "journal", type: "button", class: "main", "aria-label": `View journal: ${name}`, onclick: () => actions.open(name, "journal") }, "View journal"));
  }
  if (action === "configure") {
    found.push(h("a", { key: "configure", class: "button main", href: `/help#${server.health.reason}` }, "How to mend it"));
  }
  if (server.token?.has_refresh_token || isUnattended(server)) {
    found.push(button("refresh", action === "retry" ? "Retry now" : "Refresh", action === "retry"));
  }
  return found;
}

function needed({ login, health }) {
  const scopes = login.needed_scopes;
  if (!scopes.length) return null;
  const then = health.action === "login" ? " The next login asks for it." : "";
  return h("p", { class: "detail" }, "The server demands more permission: ",
    scopes.map((scope, index) => [index > 0 && " ", h("code", null, scope)]), ".", then);
}

/** The access token's life as a bar: how much is over, the refresh point, and the next attempt. */
function life(server) {
  const { token, refresh } = server;
  if (!token) return [h("div", { class: "life none", role: "img", "aria-label": "No token" }), h("p", { class: "words" }, lifeless(server))];
  if (!token.expires_at) return [h("div", { class: "life endless", role: "img", "aria-label": "The token’s end is not known" }), h("p", { class: "words" }, "The provider does not tell when it ends")];
  const [from, to] = [Date.parse(token.issued_at), Date.parse(token.expires_at)];
  const next = refresh.next_attempt_at && (Date.parse(refresh.next_attempt_at) - from) / (to - from);
  const over = to <= now();
  const bar = h("div", {
    class: over ? "life over" : "life", role: "img", "data-from": from, "data-to": to,
    vars: { "--spent": spent(from, to) },
    "aria-label": `The token’s life: issued ${inFull(from)}, ${over ? "ended" : "ends"} ${inFull(to)}${next ? `, next refresh ${inFull(Date.parse(refresh.next_attempt_at))}` : ""}`,
  },
  h("span", { class: "point", title: "80 %: the refresh point", vars: { "--at": REFRESH_POINT } }),
  next > 0 && next <= 1 && h("span", { class: "next", title: "Next refresh", vars: { "--at": next } }));
  return [bar, h("p", { class: "words" }, upcoming(server), over ? " · ended " : " · ends ", distance(token.expires_at))];
}

function upcoming({ health, token, refresh, grant }) {
  if (health.admin_state === "disabled") return "Not refreshed while disabled";
  if (refresh.state === "refreshing") return "Refreshing now";
  if (refresh.next_attempt_at) {
    const failed = refresh.retry_count > 0;
    return [failed ? "Next try " : "Next refresh ", distance(refresh.next_attempt_at), failed && ` (${refresh.retry_count} failed)`];
  }
  if (!token.has_refresh_token && !isUnattended({ grant })) return "Cannot be refreshed";
  return "No refresh is due";
}

function lifeless(server) {
  if (server.refresh.next_attempt_at) return ["No token yet · next try ", distance(server.refresh.next_attempt_at)];
  const last = server.refresh.last_success_at;
  return last ? ["No token · the last one was stored at ", timeOfDay(last)] : "No token yet";
}
