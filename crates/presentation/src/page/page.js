// The live page: it shows what the API says, and says when the daemon is gone.
"use strict";

const servers = new Map();
const at = (id) => document.getElementById(id);

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function relative(moment) {
  if (!moment) return "–";
  const seconds = Math.round((Date.parse(moment) - Date.now()) / 1000);
  const [size, unit] = Math.abs(seconds) < 120 ? [seconds, "s"]
    : Math.abs(seconds) < 7200 ? [Math.round(seconds / 60), "min"]
    : Math.abs(seconds) < 172800 ? [Math.round(seconds / 3600), "h"]
    : [Math.round(seconds / 86400), "days"];
  return size >= 0 ? `in ${size} ${unit}` : `${-size} ${unit} ago`;
}

function moment(text) {
  const time = element("time", "", relative(text));
  if (text) {
    time.dateTime = text;
    time.title = new Date(text).toLocaleString();
  }
  return time;
}

function key(server) {
  return server.account === "default" ? server.name : `${server.name}@${server.account}`;
}

async function call(method, path) {
  const response = await fetch(`/api/v1/servers/${path}`, { method });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.detail || `The daemon answered ${response.status}`);
  return body;
}

function button(text, label, act, main) {
  const made = element("button", main ? "main" : "", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", async () => {
    made.disabled = true;
    try { await act(); } catch (error) { note(error.message); } finally { made.disabled = false; }
  });
  return made;
}

function actions(server) {
  const name = key(server);
  const cell = element("td");
  // Accounts are switched with their server.
  const whole = server.account === "default";
  if (server.health.admin_state === "disabled") {
    if (!whole) return cell;
    if (server.source === "store") cell.append(button("Enable", `Enable ${name}`, () => call("POST", `${name}/enable`), true));
    else cell.append(element("span", "detail", "Set enabled = true in the configuration file"));
    return cell;
  }
  const login = async () => {
    // The window is opened at once, by the click; its address comes when the daemon has it.
    const opened = window.open("about:blank", "_blank");
    try {
      const started = await call("POST", `${name}/login`);
      if (opened) { opened.opener = null; opened.location = started.authorization_url; }
      if (started.device) note(`${name}: the provider asks for this code: ${started.device.user_code}`);
    } catch (error) {
      if (opened) opened.close();
      throw error;
    }
  };
  cell.append(button("Log in", `Log in to ${name}`, login, server.health.action === "login"));
  if (server.token && server.token.has_refresh_token) {
    cell.append(button("Refresh", `Refresh ${name}`, () => call("POST", `${name}/refresh`), server.health.action === "retry"));
  }
  if (whole && server.source === "store") {
    cell.append(button("Disable", `Disable ${name}`, () => call("POST", `${name}/disable`)));
  }
  return cell;
}

function row(server) {
  const made = element("tr");
  const name = element("td");
  name.append(element("strong", "", key(server)), element("div", "url", server.url));
  const state = element("td");
  const level = server.health.admin_state === "disabled" ? "disabled" : server.health.level;
  state.append(element("div", `level ${level}`, server.health.summary));
  if (server.health.detail) state.append(element("div", "detail", server.health.detail));
  const ends = element("td");
  ends.dataset.label = "Token ends";
  ends.append(moment(server.token && server.token.expires_at));
  const next = element("td");
  next.dataset.label = "Next refresh";
  next.append(moment(server.refresh.next_attempt_at));
  made.append(name, state, ends, next, actions(server));
  return made;
}

function show() {
  const names = [...servers.keys()].sort();
  at("servers").replaceChildren(...names.map((name) => row(servers.get(name))));
  at("empty").hidden = names.length > 0;
}

function note(text, when) {
  const line = element("li");
  line.append(moment(when || new Date().toISOString()), " ", text);
  at("events").prepend(line);
  while (at("events").children.length > 30) at("events").lastChild.remove();
}

function take(data) {
  if (data.server) servers.set(data.grant, data.server);
  else servers.delete(data.grant);
  show();
}

function connected(text, gone) {
  at("connection").textContent = text;
  at("connection").classList.toggle("gone", gone);
}

function listen() {
  const source = new EventSource("/events");
  source.addEventListener("open", () => connected("Live", false));
  source.addEventListener("error", () => {
    connected("The daemon does not answer. What is shown may be out of date.", true);
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
  source.addEventListener("snapshot", (event) => {
    const data = JSON.parse(event.data);
    servers.clear();
    for (const server of data.servers) servers.set(key(server), server);
    at("problems").replaceChildren(...data.problems.map((problem) => element("li", "", problem)));
    show();
  });
  source.addEventListener("servers.changed", (event) => take(JSON.parse(event.data)));
  const told = {
    "oauth.token_refreshed": (data) => `${data.grant}: refreshed in ${data.detail.duration_ms} ms`,
    "oauth.refresh_failed": (data) => `${data.grant}: refresh failed: ${data.detail.message}`,
    "oauth.login_required": (data) => `${data.grant}: ${data.detail.summary}`,
  };
  for (const [name, words] of Object.entries(told)) {
    source.addEventListener(name, (event) => {
      const data = JSON.parse(event.data);
      take(data);
      note(words(data), data.at);
    });
  }
}

setInterval(() => {
  for (const time of document.querySelectorAll("time[datetime]")) time.textContent = relative(time.dateTime);
}, 1000);
listen();
