// The whole page as a function of what is known.

import { card } from "./card.js";
import { addition, confirmation } from "./dialogs.js";
import { h, memo } from "./dom.js";
import { levelOf } from "./server.js";
import { distance, localizedText, timeOfDay } from "./time.js";

/** From so many servers on, they can be searched. */
const SEARCHED_FROM = 8;

/** So many names are told at most; the others are found. */
const NAMED_MAX = 5;

/** What those are found by that were without a token. */
const LAPSED = "without a token";

const isStale = ({ link }) => link === "gone" || link === "closed";

export function view(state, actions) {
  return [
    h("a", { class: "skip", href: "#servers" }, "Skip to the servers"),
    h("header", { class: "top" },
      h("h1", null, h("img", { src: "/page/icon.svg", alt: "", width: 24, height: 24 }), "everfresh"),
      h("p", { class: `link ${state.link}` }, { live: "Live", connecting: "Connecting …", gone: "Not connected", closed: "Closed" }[state.link]),
      h("nav", { "aria-label": "Page" },
        h("a", { class: "button", href: "/help" }, "Help"),
        h("button", { type: "button", class: "main", onclick: actions.startAdding }, "Add server"))),
    h("div", { role: "alert", key: "banner" }, banner(state)),
    h("main", { class: isStale(state) ? "stale" : null },
      state.loaded && [
        state.problems.length > 0 && h("ul", { class: "problems", "aria-label": "Problems" }, state.problems.map((problem) => h("li", null, localizedText(problem)))),
        state.servers.size > 0 ? servers(state, actions) : newcomer(actions),
        latest(state.events),
      ]),
    h("p", { class: state.said ? "toast" : "toast unseen", role: "status" }, state.said),
    dialog(state, actions),
  ];
}

function banner({ link, since, loaded }) {
  if (link === "gone") {
    return h("p", { class: "banner" }, h("strong", null, "The daemon does not answer."),
      h("span", null, since ? [" Last heard from at ", timeOfDay(new Date(since).toISOString()), loaded && "; what is shown is from then"] : null,
        ". This page connects again by itself. To start the daemon: "), h("code", null, "everfresh serve"));
  }
  if (link === "closed") {
    return h("p", { class: "banner" }, h("strong", null, "This page has been closed."),
      h("span", null, " The daemon does not know it any more. To open it again, run: "), h("code", null, "everfresh open"));
  }
  return null;
}

/** What matters first: whether all is well, and if not, where. */
function overall(all, actions) {
  const enabled = all.filter(([, server]) => levelOf(server) !== "disabled");
  const bad = (level) => all.filter(([, server]) => levelOf(server) === level).map(([name]) => name);
  const [unhealthy, degraded] = [bad("unhealthy"), bad("degraded")];
  if (unhealthy.length) {
    return ["unhealthy", [unhealthy.length === 1 ? "One server needs attention: " : `${unhealthy.length} servers need attention: `, links(unhealthy, "unhealthy", actions)]];
  }
  if (degraded.length) return ["degraded", ["Everything works. Worth a look: ", links(degraded, "degraded", actions)]];
  if (!enabled.length) return ["disabled", [all.length === 1 ? "The server is disabled." : "All servers are disabled."]];
  return ["healthy", [enabled.length === 1 ? "The server is healthy." : `All ${enabled.length} servers are healthy.`]];
}

/** The first of `names` as links, and what finds all of them. */
function links(names, search, actions) {
  const rest = names.length - NAMED_MAX;
  return [
    names.slice(0, NAMED_MAX).map((name, index) => [index > 0 && ", ", h("a", { href: `#server-${name}`, onclick: () => actions.search("") }, name)]),
    rest > 0 && [" and ", h("button", { type: "button", class: "text", "aria-label": `Show all ${names.length} that are ${search}`, onclick: () => actions.search(search) }, `${rest} more`)],
  ];
}

/** Whether any login was without a token, once the last day of each is known. */
function lapses(all, actions) {
  const days = all.map(([name]) => actions.own(name).timeline);
  if (!days.every(Boolean)) return null;
  const lapsed = all.filter(([name]) => isLapsed(name, actions)).map(([name]) => name);
  if (lapsed.length) return h("p", { class: "lapses bad" }, "Without a token in the last 24 hours: ", links(lapsed, LAPSED, actions));
  return days.some(hadToken) && h("p", { class: "lapses" }, "No login was without a token in the last 24 hours.");
}

const isLapsed = (name, { own }) => own(name).timeline?.spans.some(({ state }) => state === "lapsed");
const hadToken = ({ spans }) => spans.some(({ state }) => state === "valid");

function servers(state, actions) {
  const all = [...state.servers].sort(([a], [b]) => (a < b ? -1 : 1));
  const [level, words] = overall(all, actions);
  const wanted = state.search.toLowerCase();
  const shown = all.filter(([name, server]) => `${name} ${server.url} ${levelOf(server)} ${isLapsed(name, actions) ? LAPSED : ""}`.toLowerCase().includes(wanted));
  return h("section", { id: "servers", tabindex: "-1", "aria-labelledby": "servers-title", key: "servers" },
    h("h2", { id: "servers-title", class: "unseen" }, "Servers"),
    h("p", { class: `overall ${level}`, role: "status" }, isStale(state) && "Last known: ", words),
    lapses(all, actions),
    (all.length >= SEARCHED_FROM || state.search) && h("div", { class: "row" },
      h("label", { for: "search" }, "Search"),
      h("input", { id: "search", type: "search", value: state.search, oninput: (event) => actions.search(event.target.value) })),
    shown.map(([name, server]) => memo(name, [server, actions.own(name), actions], card)),
    shown.length === 0 && h("p", { class: "words" }, "No server is like that."),
    [...state.own.values()].some(({ timeline }) => timeline) && h("ul", { class: "legend", "aria-label": "In the drawings of the last 24 hours" },
      [["valid", "valid token"], ["lapsed", "without a token"], ["outage", "refreshes fail"], ["logged_out", "logged out or switched off"], ["off", "not running"]]
        .map(([state, word]) => h("li", null, h("span", { class: `swatch ${state}` }), word))));
}

function newcomer(actions) {
  return h("section", { id: "servers", class: "empty", tabindex: "-1", "aria-labelledby": "servers-title", key: "empty" },
    h("h2", { id: "servers-title" }, "No server yet"),
    h("p", null, "Add the MCP servers and APIs that you log in to. everfresh keeps their tokens fresh, and your clients need no login of their own."),
    h("ol", null,
      h("li", null, "Add a server by its URL, and log in once."),
      h("li", null, "Connect your clients to it: one command for each, shown beside the server."),
      h("li", null, "Look here, or run ", h("code", null, "everfresh list"), ", when something does not work.")),
    h("p", null, h("button", { type: "button", class: "main", onclick: actions.startAdding }, "Add the first server")),
    h("p", { class: "words" }, "In a terminal: ", h("code", null, "everfresh add linear https://mcp.linear.app/mcp")));
}

function latest(events) {
  return events.length > 0 && h("section", { class: "latest", "aria-labelledby": "latest-title", key: "latest" },
    h("h2", { id: "latest-title" }, "Since this page was opened"),
    h("ol", null, events.map(({ id, at, grant, text, bad, times }) => h("li", { key: id },
      timeOfDay(at), h("strong", null, grant), h("span", { class: bad ? "bad" : null }, localizedText(text), times > 1 && ` (${times} times)`), h("span", { class: "words" }, distance(at))))));
}

function dialog({ dialog: asked }, actions) {
  if (asked?.kind === "add") return addition(asked, actions.closeDialog, actions.add);
  if (asked?.kind === "confirm") return confirmation(asked, actions.closeDialog, () => actions.confirmed(asked));
  return null;
}
