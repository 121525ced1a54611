// Servers in every state, for the tests that look at the page without waiting a day for it.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** When the newest of them was made, so that distances are as they would be. */
let now = 0;
const sinceNow = (make) => {
  now = Math.floor(Date.now() / 1000) * 1000;
  return make();
};
const iso = (ms) => new Date(ms).toISOString().replace(".000Z", "Z");

function server(name, part = {}) {
  const [issued, expires] = [now - 35 * MINUTE, now + 25 * MINUTE];
  return {
    name, account: "default", url: `https://mcp.${name}.example/mcp`, grant: "authorization_code", source: "store", shadows_stored: false,
    issuer: `https://auth.${name}.example`, profile: null,
    ...part,
    health: { level: "healthy", admin_state: "enabled", summary: `Token refresh scheduled for ${iso(issued + 48 * MINUTE)}`, detail: "", action: "", reason: "ok", ...part.health },
    token: part.token === null ? null : {
      type: "Bearer", issued_at: iso(issued), expires_at: iso(expires), lifetime_s: 3600, has_refresh_token: true, refresh_token_expires_at: null,
      scopes: ["read", "write"], lost_scopes: [], generation: 17, fingerprint: "9f3a01bc", ...part.token,
    },
    refresh: { state: "scheduled", next_attempt_at: iso(issued + 48 * MINUTE), retry_count: 0, last_attempt_at: iso(issued), last_success_at: iso(issued), last_error: null, ...part.refresh },
    login: { pending: false, flow_id: null, pending_since: null, pending_until: null, requested_scopes: ["read"], needed_scopes: [], client_secret_expires_at: null, ...part.login },
  };
}

/** One server in each state that has its own look. */
export const everyState = () => sinceNow(() => {
  const retry = now + 40_000;
  const ended = { issued_at: iso(now - 63 * MINUTE), expires_at: iso(now - 3 * MINUTE) };
  const error = { reason: "retrying_network", oauth_error: null, http_status: null, message: "connection timed out", attempt_id: "a1" };
  const retrying = { state: "retrying", next_attempt_at: iso(retry), retry_count: 3, last_error: error };
  return {
    problems: [`config.toml line 7: unknown key "ulr"; the version of ${iso(now - HOUR)} stays in force`],
    servers: [
      server("linear"),
      server("asana", { source: "file", profile: { name: "asana", title: "Asana", note: "Asana ends logins after a year." } }),
      server("github", {
        token: { issued_at: iso(now - 55 * MINUTE), expires_at: iso(now + 5 * MINUTE) },
        refresh: retrying, health: { level: "degraded", summary: "Refresh failed - network error", detail: `Refresh retry 3 at ${iso(retry)}: connection timed out`, action: "retry", reason: "retrying_network" },
      }),
      server("notion", {
        token: ended, refresh: retrying,
        health: { level: "unhealthy", summary: "Token expired, provider unreachable", detail: `Refresh retry 3 at ${iso(retry)}: connection timed out`, action: "retry", reason: "retrying_network" },
      }),
      server("sentry", {
        token: null, refresh: { state: "failed", next_attempt_at: null },
        health: { level: "unhealthy", summary: "Refresh token expired - re-authentication required", detail: "The provider refused the refresh token: invalid_grant", action: "login", reason: "refresh_token_rejected" },
      }),
      server("slack", {
        health: { level: "degraded", summary: "Missing permission: channels:history", action: "login", reason: "insufficient_scope" }, login: { needed_scopes: ["channels:history"] },
      }),
      server("stripe", { account: "work", token: { has_refresh_token: false }, refresh: { state: "idle", next_attempt_at: null }, health: { summary: `This login lasts until ${iso(now + 25 * MINUTE)}`, detail: "The provider gave no refresh token.", action: "login", reason: "no_refresh_token" } }),
      server("zapier", { health: { admin_state: "disabled", summary: "Disabled", action: "enable", reason: "disabled" }, refresh: { state: "idle", next_attempt_at: null } }),
      server("figma", { token: null, refresh: { state: "idle", next_attempt_at: null, last_success_at: null, last_attempt_at: null }, login: pendingLogin("figma"), health: { level: "unhealthy", summary: "Login required", action: "login", reason: "login_required" } }),
      server("canva", { token: null, refresh: { state: "idle", next_attempt_at: null, last_success_at: null, last_attempt_at: null }, login: pendingLogin("canva"), health: { level: "unhealthy", summary: "Login required", action: "login", reason: "login_required" } }),
      server("billing", { grant: "client_credentials", token: { expires_at: null, lifetime_s: null }, health: { level: "degraded", summary: "This machine's clock is off by 75 s", action: "configure", reason: "clock_skew" } }),
    ],
  };
});

/** As the servers that have it tell of a login under way. */
function pendingLogin(name) {
  return { pending: true, flow_id: `flow-of-${name}`, pending_since: iso(now - 2 * MINUTE), pending_until: iso(now + 8 * MINUTE) };
}

/** The same login as it was told when it began: one by code, the other one by browser. */
function begun(name) {
  const { flow_id, pending_since: began_at, pending_until: expires_at } = pendingLogin(name);
  const query = `response_type=code&client_id=9f3a01bc&redirect_uri=http%3A%2F%2F127.0.0.1%3A7411%2Foauth%2Fcallback&state=${"0123456789abcdef".repeat(4)}`;
  const page = `https://auth.${name}.example`;
  return name === "canva"
    ? { flow_id, began_at, expires_at, authorization_url: `${page}/activate?user_code=WDJB-MJHT`, redirect_uri: null, device: { user_code: "WDJB-MJHT", verification_uri: `${page}/activate` } }
    : { flow_id, began_at, expires_at, authorization_url: `${page}/authorize?${query}`, redirect_uri: "http://127.0.0.1:7411/oauth/callback", device: null };
}

/** A few that work. */
export const wellState = () => sinceNow(() => ({ problems: [], servers: ["linear", "asana", "cloudflare"].map((name) => server(name)) }));

/** Many, of long names; every third one is dead. */
export const many = () => sinceNow(() => {
  const dead = { level: "unhealthy", summary: "Refresh token expired - re-authentication required", action: "login", reason: "refresh_token_rejected" };
  const name = (number) => `customer-success-analytics-eu-central-${String(number).padStart(2, "0")}`;
  const servers = Array.from({ length: 30 }, (_, number) => server(name(number), {
    url: `https://mcp-gateway.${name(number)}.internal.corporation.example/a/long/path/mcp?tenant=abcdef`,
    ...(number % 3 === 0 && { token: null, health: dead, refresh: { state: "failed", next_attempt_at: null } }),
  }));
  return { problems: [], servers };
});

/** Markup wherever a server, a provider or a file can bring its own words. */
export const hostile = () => sinceNow(() => {
  const markup = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
  const error = { reason: "retrying_provider", oauth_error: markup, http_status: 500, message: markup, attempt_id: "a1" };
  return {
    problems: [markup],
    servers: [server("demo", {
      url: `javascript:window.hacked=1//${markup}`, issuer: markup, profile: { name: "x", title: markup, note: markup },
      health: { level: "degraded", summary: markup, detail: markup, action: "view_logs", reason: "retrying_provider" },
      token: { scopes: [markup], lost_scopes: [markup], type: markup, fingerprint: markup },
      refresh: { last_error: error }, login: { needed_scopes: [markup], requested_scopes: [markup] },
    })],
  };
});

/** The last day of each server, by its name. */
function timelineOf(name) {
  const from = now - 24 * HOUR;
  const at = (hours) => iso(from + hours * HOUR);
  const spans = (...list) => list.map(([state, begins, ends]) => ({ state, from: at(begins), to: at(ends) }));
  const attempts = (begins, ends, result = "refreshed", every = 0.8) => {
    const all = [];
    for (let hour = begins; hour < ends; hour += every) all.push({ at: at(hour), duration_ms: 240, result, reason: result === "failed" ? "retrying_network" : "ok" });
    return all;
  };
  const outage = (begins, ends) => ({ from: at(begins), to: ends && at(ends), reason: "retrying_network" });
  const days = {
    asana: [spans(["valid", 0, 7], ["off", 7, 8.5], ["valid", 8.5, 24]), [], [...attempts(0, 7), ...attempts(8.5, 24)]],
    github: [spans(["valid", 0, 24]), [outage(23.5)], [...attempts(0, 23.3), ...attempts(23.5, 24, "failed", 0.05)]],
    notion: [spans(["valid", 0, 11], ["lapsed", 11, 11.03], ["valid", 11.03, 23.95], ["lapsed", 23.95, 24]), [outage(10.7, 11.03), outage(23.7)], [...attempts(0, 10.7), ...attempts(10.7, 11, "failed", 0.05), ...attempts(11.03, 23.5), ...attempts(23.7, 24, "failed", 0.05)]],
    sentry: [spans(["unknown", 0, 5], ["valid", 5, 18], ["lapsed", 18, 24]), [outage(18)], [...attempts(5, 18), ...attempts(18, 18.1, "failed")]],
    slack: [spans(["valid", 0, 6], ["logged_out", 6, 9], ["valid", 9, 24]), [], [...attempts(0, 6), ...attempts(9, 24)]],
    canva: [spans(["logged_out", 0, 24]), [], []],
    figma: [spans(["a state of a later version", 0, 24]), [], []],
  };
  const [states, outages, tried] = days[name] ?? [spans(["valid", 0, 24]), [], attempts(0, 24)];
  return { from: at(0), to: at(24), spans: states, outages, attempts: tried };
}

function journalOf() {
  const entry = (minutes, part) => ({
    attempt_id: String(minutes), started_at: iso(now - minutes * MINUTE), duration_ms: 240, trigger: "schedule", generation: 17, refresh_token: "9f3a01bc",
    credential: null, result: "refreshed", new_refresh_token: "77aa01bc", oauth_error: null, http_status: null, message: null, ...part,
  });
  const failed = { result: "failed", trigger: "retry", http_status: 503, message: '<img src=x onerror="window.hacked=1"> service unavailable', new_refresh_token: null, duration_ms: 10_002 };
  return { entries: [entry(35), entry(36, failed), entry(37, failed), entry(83), entry(131), entry(179)] };
}

/** Shows `snapshot` in the pages of `context`, as if the daemon had sent it. */
export async function shown(context, snapshot) {
  let sent = false;
  await context.route("**/events", (route) => {
    // A stream that was sent whole has ended; the next one is open and silent.
    if (sent) return;
    sent = true;
    route.fulfill({ contentType: "text/event-stream", body: `event: snapshot\nid: f-1\ndata: ${JSON.stringify(snapshot)}\n\n` });
  });
  await context.route("**/timeline?*", (route) => route.fulfill({ json: timelineOf(new URL(route.request().url()).pathname.split("/").at(-2).split("%40")[0]) }));
  await context.route("**/servers/*/login", (route) => route.fulfill({ json: begun(new URL(route.request().url()).pathname.split("/").at(-2)) }));
  await context.route("**/journal?*", (route) => route.fulfill({ json: journalOf() }));
}
