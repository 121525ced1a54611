// What opens below a server: its journal, how clients reach it, its particulars, and what is seldom done.

import { h } from "./dom.js";
import { canSwitch, isUnattended } from "./server.js";
import { spell, timeOfDay } from "./time.js";

/** Key and title of each panel, in the order of their buttons. */
export const PANELS = [["journal", "Journal"], ["connect", "Connect"], ["details", "Details"], ["manage", "Manage"]];

/** The clients that `everfresh connect` knows. */
const CLIENTS = [
  ["claude-code", "Claude Code"], ["claude-desktop", "Claude Desktop"], ["cursor", "Cursor"], ["vscode", "VS Code"],
  ["codex", "Codex"], ["gemini", "Gemini CLI"], ["windsurf", "Windsurf"], ["zed", "Zed"], ["goose", "goose"], ["opencode", "opencode"],
];

export function panel(key, inside) {
  const made = { journal, connect, details, manage };
  const [, title] = PANELS.find(([name]) => name === key);
  return h("section", { class: "panel", id: inside.id, key, "aria-label": `${title}: ${inside.name}` }, made[key](inside));
}

function journal({ own }) {
  if (!own.journal) return h("p", { class: "words" }, "Loading …");
  if (own.journal.failed) return h("p", { class: "words" }, own.journal.failed);
  const entries = own.journal.entries;
  if (!entries.length) return h("p", { class: "words" }, "Nothing has been attempted yet.");
  const heads = ["When", "Result", "Took", "Why", "What the provider said"];
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Attempts, newest first" }, h("table", null,
    h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", null, entries.map((entry) => h("tr", { key: entry.attempt_id },
      h("td", null, timeOfDay(entry.started_at)),
      h("td", { class: entry.result === "failed" ? "bad" : null }, `${entry.result === "failed" ? "✗" : "✓"} ${entry.result}`),
      h("td", null, spell(entry.duration_ms)),
      h("td", null, entry.trigger.replaceAll("_", " ")),
      h("td", { class: "said" }, failure(entry)))))));
}

/** What an attempt came to, as far as it is known. */
const failure = ({ http_status, oauth_error, message }) => [http_status, oauth_error, message].filter(Boolean).join(" · ");

/** A text with a button that copies it. */
export function copyable(text, label, actions) {
  return h("div", { class: "copyable" }, h("pre", { tabindex: "0", role: "region", "aria-label": label }, h("code", null, text)),
    h("button", { type: "button", "aria-label": `Copy: ${label}`, onclick: (event) => actions.copy(text, event) }, "Copy"));
}

function connect({ id, name, own, actions }) {
  const client = own.client ?? CLIENTS[0][0];
  const [, title] = CLIENTS.find(([key]) => key === client);
  const stdio = `{ "command": "everfresh", "args": ["stdio", "${name}"] }`;
  return [
    h("div", { class: "row" },
      h("label", { for: `${id}-client` }, "Client"),
      h("select", { id: `${id}-client`, onchange: (event) => actions.client(name, event.target.value) },
        CLIENTS.map(([key, words]) => h("option", { value: key, selected: key === client }, words)))),
    copyable(`everfresh connect ${client} ${name}`, `Set up ${title}`, actions),
    h("p", { class: "words" }, "Run it in a terminal: it writes the client’s configuration and keeps a backup. The client needs no login of its own."),
    h("h4", null, "Any client that starts stdio servers"),
    copyable(stdio, "stdio server", actions),
    h("h4", null, "Any client that takes a URL"),
    copyable(`everfresh url ${name}`, "Print the URL", actions),
    h("h4", null, "Scripts, and everything else"),
    copyable(`everfresh token ${name} -o header`, "Print an Authorization header", actions),
    h("p", { class: "words" }, "These commands print secrets; this page never has them."),
  ];
}

function details({ server }) {
  const { token, refresh, login } = server;
  const list = (texts) => texts.length > 0 && texts.join(" ");
  const facts = [
    ["URL", server.url],
    ["Provider", [server.profile?.title, server.issuer].filter(Boolean).join(" · ")],
    ["Provider’s ways", server.profile?.note],
    ["Grant", server.grant.replaceAll("_", " ")],
    ["Defined in", server.source === "file" ? "the configuration file" : "the store, by everfresh add or this page"],
    ["Shadowed", server.shadows_stored && "a server of this name was also added at run time; the file wins"],
    ["Token type", token?.type],
    ["Issued", token && timeOfDay(token.issued_at)],
    ["Lifetime", token?.lifetime_s && spell(token.lifetime_s * 1000)],
    ["Scopes", token && list(token.scopes)],
    ["Taken back", token && list(token.lost_scopes)],
    ["Scopes asked for", list(login.requested_scopes)],
    ["Refresh token", token && (token.has_refresh_token ? "yes" : "none")],
    ["Refresh token ends", token?.refresh_token_expires_at && timeOfDay(token.refresh_token_expires_at)],
    ["Client secret ends", login.client_secret_expires_at && timeOfDay(login.client_secret_expires_at)],
    ["Last attempt", refresh.last_attempt_at && timeOfDay(refresh.last_attempt_at)],
    ["Last success", refresh.last_success_at && timeOfDay(refresh.last_success_at)],
    ["Last error", refresh.last_error && failure(refresh.last_error)],
    ["Token set", token && `generation ${token.generation}, fingerprint ${token.fingerprint}`],
  ];
  return h("dl", null, facts.filter(([, fact]) => fact).map(([term, fact]) => h("div", { key: term }, h("dt", null, term), h("dd", null, fact))));
}

function manage({ name, server, own, actions }) {
  const disabled = server.health.admin_state === "disabled";
  const switchable = canSwitch(server);
  const task = (key, title, words, danger) => h("li", { key },
    h("button", { type: "button", class: danger ? "danger" : null, "aria-disabled": own.busy?.has(key) && "true", "aria-label": `${title}: ${name}`, onclick: () => actions.run(name, key) }, title),
    h("span", { class: "words" }, words));
  return h("ul", { class: "tasks" },
    !disabled && !isUnattended(server) && [
      task("login", server.token ? "Log in again" : "Log in", "opens the provider’s page in a new tab"),
      task("login-device", "Log in with a code", "for a browser on another device, where the provider offers it"),
    ],
    !disabled && server.token && task("logout", "Log out", "erases the tokens here, and revokes them at the provider where it can", true),
    switchable && (disabled
      ? task("enable", "Enable", "refreshes and serves requests again")
      : task("disable", "Disable", "keeps the login, and neither refreshes nor serves requests")),
    !switchable && server.account === "default" && h("li", { key: "file" }, h("span", { class: "words" }, "This server stands in the configuration file: switch it there, with ", h("code", null, "enabled"), ", or remove it there.")),
    (server.source === "store" || server.account !== "default") && task("remove", "Remove", server.account === "default" ? "logs out, and forgets the server" : "logs out, and forgets this account", true));
}
