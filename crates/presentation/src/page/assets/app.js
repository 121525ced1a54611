// What is known, what changes it, and when it is drawn.

import * as api from "./api.js";
import { isAskedFirst } from "./dialogs.js";
import { show } from "./dom.js";
import { listen } from "./events.js";
import { histories } from "./histories.js";
import { logins } from "./logins.js";
import { levelOf, nameOf } from "./server.js";
import { tick } from "./time.js";
import { view } from "./view.js";

const EVENTS_SHOWN = 20;
const TOAST = 6000;

const root = document.getElementById("page");
const state = {
  link: "connecting", // live, gone, closed
  since: 0, // when the daemon was last heard, in ms
  loaded: false,
  servers: new Map(),
  problems: [],
  own: new Map(), // what else is known of a server: its open panel, notices, its login under way, its last day
  events: [],
  search: "",
  dialog: null,
  said: "",
};
const NOTHING = Object.freeze({});
const past = histories((name, timeline) => state.servers.has(name) && set(name, { timeline }));
const underWay = logins({ own, set, say, fail });

let drawn = true;
/** Draws once, after all that happens in this turn. */
function draw() {
  if (!drawn) return;
  drawn = false;
  queueMicrotask(() => {
    drawn = true;
    const focused = document.activeElement;
    const card = focused?.closest(".card");
    show(root, view(state, actions));
    // Whoever was at what is no more stays beside it, and does not begin at the top again.
    if (focused && !focused.isConnected) (card?.isConnected ? card : document.getElementById("servers"))?.focus();
    document.title = title();
  });
}

function title() {
  if (state.link === "gone" || state.link === "closed") return "Not connected · everfresh";
  const bad = [...state.servers.values()].filter((server) => levelOf(server) === "unhealthy").length;
  return bad ? `(${bad}) everfresh` : "everfresh";
}

function change(part) {
  Object.assign(state, part);
  draw();
}

function own(name) {
  return state.own.get(name) ?? NOTHING;
}

function set(name, part) {
  state.own.set(name, { ...own(name), ...part });
  draw();
}

let toast = 0;
function say(said) {
  clearTimeout(toast);
  toast = setTimeout(() => change({ said: "" }), TOAST);
  change({ said });
}

function fail(name, error) {
  set(name, { notice: { text: error.message, passes: error instanceof api.Unreachable } });
}

/* What a person does. */

const actions = {
  own,
  watch: past.watch,
  startAdding: () => change({ dialog: { kind: "add" } }),
  closeDialog: () => change({ dialog: null }),
  search: (search) => change({ search }),
  dismiss: (name) => set(name, { notice: null }),
  client: (name, client) => set(name, { client }),
  confirmed: ({ name, action }) => run(name, action),
  add,

  open(name, panel) {
    set(name, { panel });
    if (panel === "journal") readJournal(name);
  },

  run(name, action) {
    if (isAskedFirst(action)) change({ dialog: { kind: "confirm", name, action } });
    else run(name, action);
  },

  async copy(text, { currentTarget: button }) {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied.");
    } catch {
      // Browsers give the clipboard to pages of this machine and of https only.
      getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      say("Selected: copy it with your keyboard.");
    }
  },
};

const TASKS = {
  refresh: async (name) => {
    const { outcome, server } = await api.act(name, "refresh");
    if (outcome === "refreshed") say(`${name}: refreshed.`);
    else fail(name, new Error(outcome === "failed" ? server.refresh.last_error?.message ?? "The refresh failed." : "There is nothing to refresh with: log in."));
  },
  enable: (name) => api.act(name, "enable"),
  disable: (name) => api.act(name, "disable"),
  logout: (name) => api.act(name, "logout").then(() => say(`Logged out of ${name}.`)),
  remove: async (name) => {
    await api.removeServer(name);
    say(`Removed ${name}.`);
  },
  login: (name) => underWay.begin(name),
  "login-device": (name) => underWay.begin(name, "device"),
  "cancel-login": (name) => underWay.cancel(name),
};

async function run(name, action) {
  if (own(name).busy?.has(action)) return;
  set(name, { busy: new Set(own(name).busy).add(action), notice: null });
  try {
    await TASKS[action](name);
  } catch (error) {
    fail(name, error);
  } finally {
    const busy = new Set(own(name).busy);
    busy.delete(action);
    if (state.servers.has(name)) set(name, { busy });
  }
}

async function add({ server, login }) {
  if (state.dialog.sending) return;
  change({ dialog: { ...state.dialog, sending: true } });
  try {
    const added = await api.addServer(server);
    root.querySelector("dialog")?.close();
    take({ grant: nameOf(added), server: added });
    if (login) run(nameOf(added), "login");
  } catch (error) {
    change({ dialog: { kind: "add", refusal: error } });
    queueMicrotask(() => root.querySelector("dialog [aria-invalid]")?.focus());
  }
}

async function readJournal(name) {
  const journal = await api.journal(name).catch((error) => ({ failed: error.message }));
  set(name, { journal });
}

/* What the daemon tells. */

function take({ grant, server }) {
  if (server) {
    state.servers.set(grant, server);
    past.want(grant);
    underWay.told(grant, server.login);
    if (own(grant).panel === "journal") readJournal(grant);
  } else {
    forget(grant);
  }
  draw();
}

function forget(name) {
  state.servers.delete(name);
  state.own.delete(name);
  past.forget(name);
}

const TOLD = {
  "oauth.token_refreshed": ({ duration_ms: took }) => ({ text: `refreshed in ${took} ms` }),
  "oauth.refresh_failed": ({ message }) => ({ text: `refresh failed: ${message}`, bad: true }),
  "oauth.login_required": ({ summary }) => ({ text: summary, bad: true }),
};

function heard(name, data, id) {
  if (name === "snapshot") {
    const servers = new Map(data.servers.map((server) => [nameOf(server), server]));
    for (const known of state.servers.keys()) if (!servers.has(known)) forget(known);
    change({ servers, problems: data.problems, loaded: true });
    for (const [known, server] of servers) {
      past.want(known);
      underWay.told(known, server.login);
    }
    return;
  }
  take(data);
  const told = TOLD[name]?.(data.detail);
  if (told) note({ id, at: data.at, grant: data.grant, ...told });
}

/** Adds to what happened since the page was opened; the same again is one line. */
function note(event) {
  const [last, ...before] = state.events;
  const again = last?.grant === event.grant && last.text === event.text;
  const events = again ? [{ ...event, id: last.id, times: last.times + 1 }, ...before] : [{ ...event, times: 1 }, ...state.events];
  change({ events: events.slice(0, EVENTS_SHOWN) });
}

function linked(link, since) {
  if (link === state.link) return;
  if (link === "live") {
    reloadIfOutdated();
    for (const [name, { notice }] of state.own) if (notice?.passes) set(name, { notice: null });
  }
  change({ link, since });
}

/** A daemon of another version has come: its page is another one, too. */
async function reloadIfOutdated() {
  const mark = (text) => /name="everfresh-page" content="(\w+)"/.exec(text)?.[1];
  const answer = await fetch("/", { cache: "no-store" }).then((response) => response.text(), () => "");
  const found = mark(answer);
  if (found && found !== mark(document.head.outerHTML) && !state.dialog) location.reload();
}

setInterval(() => tick(root), 1000);
document.addEventListener("visibilitychange", () => tick(root));
draw();
listen(heard, linked);
