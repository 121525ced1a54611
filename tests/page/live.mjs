// The page follows what happens: logins, refreshes, outages, a daemon that goes and comes back.

import assert from "node:assert/strict";
import { LIFETIME } from "./world.mjs";

/** An outage must be seen within so many seconds. */
const SEEN_WITHIN = 5;

const seconds = (since) => (Date.now() - since) / 1000;
const press = (page, name, scope = page) => scope.getByRole("button", { name, exact: true }).click();

/** Tells how long something took to be seen, and that it was not too long. */
function measure(what, since) {
  const took = seconds(since);
  console.log(`  ${what}: shown after ${took.toFixed(2)} s`);
  assert.ok(took < SEEN_WITHIN, `${what} was shown only after ${took} s`);
}

async function type(dialog, name, url) {
  await dialog.getByLabel("Name", { exact: true }).fill(name);
  await dialog.getByLabel("URL", { exact: true }).fill(url);
  await press(dialog, "Add");
}

async function addsAndLogsIn(set) {
  const page = await set.open();
  await page.getByRole("heading", { name: "No server yet" }).waitFor();
  await set.running.call("POST", "/api/v1/servers", { name: "taken", url: set.world.upstream });
  await page.locator("#server-taken").waitFor();
  await press(page, "Add server");
  const dialog = page.getByRole("dialog");
  set.seen.expectedErrors.push(/status of 4(09|22)/);
  for (const [name, url, field, words] of [
    ["No Good", set.world.upstream, "name", /the name "No Good" is not usable: use 1 to 64 of the characters/],
    ["taken", set.world.upstream, "name", /there is a server taken already/],
    ["demo", "not a url", "url", /"not a url" is not an http or https URL with a host/],
  ]) {
    await type(dialog, name, url);
    const refused = dialog.locator(`#add-${field}[aria-invalid=true]`);
    await refused.waitFor();
    await dialog.locator(`#add-${field}-error`, { hasText: words }).waitFor();
    assert.equal(await refused.evaluate((input) => input === document.activeElement), true, "the field has the focus");
    assert.equal(await dialog.locator("#add-name").inputValue(), name, "nothing that was typed is lost");
  }
  const tab = set.context.waitForEvent("page");
  await type(dialog, "demo", set.world.upstream);
  const provider = await tab;
  await provider.getByRole("heading", { name: "Logged in to demo" }).waitFor();
  await page.locator("#server-demo.healthy").waitFor();
  await page.getByText("Logged in to demo.", { exact: true }).waitFor();
  assert.equal(await dialog.count(), 0);
  assert.equal(await provider.evaluate(() => window.opener), null, "the provider has no hold of the page");
}

async function showsRefreshes(set) {
  await set.logIn();
  const page = await set.open();
  await page.evaluate(() => { window.untouched = true; });
  const card = page.locator("#server-demo");
  await press(page, "Refresh: demo");
  await page.getByText("demo: refreshed.", { exact: true }).waitFor();
  const before = (await set.running.server("demo")).token.generation;
  await press(page, "Details: demo");
  await card.getByText(`generation ${before + 1},`).waitFor();
  const next = Date.parse((await set.running.server("demo")).token.issued_at);
  measure("a refresh that was due", next);
  assert.equal(await page.evaluate(() => window.untouched), true, "without a reload");
  await page.locator(".latest").getByText(/refreshed in \d+ ms/).first().waitFor();
}

async function showsOutages(set) {
  await set.logIn();
  const page = await set.open();
  const card = page.locator("#server-demo");
  await page.locator("#server-demo.healthy").waitFor();
  await set.world.down();
  const { refresh, token } = await set.running.server("demo");
  const due = Math.max(Date.now(), Date.parse(refresh.next_attempt_at));
  await card.getByText("Refresh failed - network error").waitFor();
  measure("provider down, when a refresh was due", due);
  await page.locator("#server-demo.degraded").waitFor();
  assert.equal(await card.getByRole("link", { name: "Help on retrying_network" }).getAttribute("href"), "/help#retrying_network");
  await card.getByText("Token expired, provider unreachable").waitFor();
  measure("token ended while the provider is down", Date.parse(token.expires_at));
  await page.getByText("One server needs attention:").waitFor();
  assert.equal(await page.title(), "(1) everfresh");
  await page.screenshot({ path: "pictures/outage-live.png", fullPage: true });
  await set.world.up();
  const up = Date.now();
  await press(page, "Retry now: demo");
  await page.locator("#server-demo.healthy").waitFor();
  measure("provider back", up);
  await page.getByText("The server is healthy.").waitFor();
  assert.equal(await page.title(), "everfresh");
}

async function showsDeadLogins(set) {
  await set.logIn();
  const page = await set.open();
  await page.locator("#server-demo.healthy").waitFor();
  await set.world.post("revoke-all");
  const { refresh } = await set.running.server("demo");
  await page.getByText("Refresh token expired - re-authentication required").first().waitFor();
  measure("login ended by the provider, when a refresh was due", Math.max(Date.now() - LIFETIME * 1000, Date.parse(refresh.next_attempt_at)));
  const tab = set.context.waitForEvent("page");
  await press(page, "Log in: demo");
  await (await tab).getByRole("heading", { name: "Logged in to demo" }).waitFor();
  await page.locator("#server-demo.healthy").waitFor();
}

async function saysThatTheDaemonIsGone(set) {
  await set.logIn();
  const page = await set.open();
  await page.locator("#server-demo.healthy").waitFor();
  set.seen.expectedErrors.push(/net::ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET|EMPTY_RESPONSE)/);
  await set.running.kill();
  const killed = Date.now();
  const banner = page.locator("[role=alert] .banner", { hasText: "The daemon does not answer." });
  await banner.waitFor();
  measure("daemon killed", killed);
  await banner.getByText(/Last heard from at/).waitFor();
  await banner.getByText("everfresh serve").waitFor();
  assert.equal(await page.title(), "Not connected · everfresh");
  await page.locator("main.stale").waitFor();
  await press(page, "Refresh: demo");
  await page.getByText("The daemon does not answer. Start it with: everfresh serve").waitFor();
  await page.screenshot({ path: "pictures/gone.png", fullPage: true });
  set.running = await set.place.daemon(set.running.port);
  const back = Date.now();
  await page.getByText("Live", { exact: true }).waitFor();
  measure("daemon back", back);
  await page.locator("main:not(.stale) #server-demo.healthy").waitFor();
  assert.equal(await page.getByText("The daemon does not answer.").count(), 0);
  await page.reload();
  await page.locator("#server-demo.healthy").waitFor();
}

async function saysThatItWasClosed(set) {
  const page = await set.open();
  await page.getByText("Live", { exact: true }).waitFor();
  set.seen.expectedErrors.push(/net::ERR_|status of 403/);
  await set.running.kill();
  await set.place.newKey();
  set.running = await set.place.daemon(set.running.port);
  await page.getByRole("alert").filter({ hasText: "This page has been closed." }).getByText("everfresh open").waitFor();
  await page.screenshot({ path: "pictures/closed.png" });
  const another = await set.open();
  await another.getByText("Live", { exact: true }).waitFor();
  await page.getByText("Live", { exact: true }).waitFor();
  assert.equal(await page.getByText("This page has been closed.").count(), 0);
}

async function asksBeforeLogout(set) {
  await set.logIn();
  const page = await set.open();
  await press(page, "Manage: demo");
  const dialog = page.getByRole("dialog");
  await press(page, "Log out: demo");
  await dialog.getByRole("heading", { name: "Log out of demo?" }).waitFor();
  await press(dialog, "Cancel");
  await page.locator("dialog").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.ariaLabel), "Log out: demo", "the focus is where it was");
  assert.equal((await set.running.server("demo")).health.reason, "ok");
  await press(page, "Log out: demo");
  await press(dialog, "Log out");
  await page.getByText("Logged out of demo.", { exact: true }).waitFor();
  await page.locator("#server-demo.unhealthy").waitFor();
  assert.equal((await set.running.server("demo")).token, null);
  // Its last day may just be asked for when it goes.
  set.seen.expectedErrors.push(/status of 404/);
  await press(page, "Remove: demo");
  await press(dialog, "Remove");
  await page.getByRole("heading", { name: "No server yet" }).waitFor();
  assert.equal((await set.running.call("GET", "/api/v1/servers/demo")).status, 404);
}

async function switches(set) {
  await set.logIn();
  const page = await set.open();
  await press(page, "Manage: demo");
  await press(page, "Disable: demo");
  await page.locator("#server-demo.disabled").waitFor();
  await page.getByText("Not refreshed while disabled").waitFor();
  await page.getByText("The server is disabled.", { exact: true }).waitFor();
  assert.equal((await set.running.server("demo")).health.admin_state, "disabled");
  await press(page.locator("#server-demo header"), "Enable: demo");
  await page.locator("#server-demo.healthy").waitFor();
}

async function showsTheJournal(set) {
  await set.logIn();
  const page = await set.open();
  await page.locator("#server-demo.healthy").waitFor();
  await press(page, "Journal: demo");
  const table = page.getByRole("table");
  await press(page, "Refresh: demo");
  await table.getByText("✓ refreshed").first().waitFor();
  await set.world.switches({ fault: { kind: "status", status: 503, body: "", retry_after: null } });
  await press(page, "Refresh: demo");
  await table.getByText("✗ failed").first().waitFor();
  await table.getByText(/503/).first().waitFor();
}

async function logsInByCode(set) {
  await set.running.call("POST", "/api/v1/servers", { name: "demo", url: set.world.upstream });
  const page = await set.open();
  await press(page, "Manage: demo");
  await press(page, "Log in with a code: demo");
  const card = page.locator("#server-demo");
  await card.getByText("USER-0001", { exact: true }).waitFor();
  await card.getByText(`${set.world.issuer}/activate`).waitFor();
  await page.screenshot({ path: "pictures/device.png" });
  await set.world.approve();
  await page.locator("#server-demo.healthy").waitFor();
  assert.equal(await card.getByText("USER-0001").count(), 0);
}

/** A login that nobody has answered yet, as it begins in a terminal. */
async function beginElsewhere(set, wish) {
  await set.running.call("POST", "/api/v1/servers", { name: "demo", url: set.world.upstream });
  return JSON.parse((await set.running.call("POST", "/api/v1/servers/demo/login", wish)).text);
}

async function goesOnWithLogins(set) {
  const started = await beginElsewhere(set);
  await set.context.grantPermissions(["clipboard-write"], { origin: set.url });
  const page = await set.open();
  const login = page.getByRole("region", { name: "Login under way: demo", exact: true });
  assert.equal(await login.locator("time").first().getAttribute("datetime"), started.began_at);
  assert.equal(await login.locator("time").last().getAttribute("datetime"), started.expires_at);
  const link = login.getByRole("link", { name: "Open the provider’s page" });
  assert.equal(await link.getAttribute("href"), started.authorization_url, "it is the same login");
  assert.equal(await page.getByRole("button", { name: "Log in: demo", exact: true }).count(), 0, "nobody begins another by mistake");
  await press(page, "Copy: The provider’s page for demo");
  await page.getByText("Copied.", { exact: true }).waitFor();
  await page.screenshot({ path: "pictures/login-under-way.png" });
  const tab = set.context.waitForEvent("page");
  await link.click();
  await (await tab).getByRole("heading", { name: "Logged in to demo" }).waitFor();
  await page.getByText("Logged in to demo.", { exact: true }).waitFor();
  await page.locator("#server-demo.healthy").waitFor();
  assert.equal(await login.count(), 0);
}

async function takesLoginsBack(set) {
  const page = await set.open();
  await page.getByText("Live", { exact: true }).waitFor();
  const started = await beginElsewhere(set, { way: "device" });
  const login = page.getByRole("region", { name: "Login under way: demo", exact: true });
  await login.getByText("USER-0001", { exact: true }).waitFor();
  await press(page, "Cancel login: demo");
  await page.getByText("The login to demo was cancelled.", { exact: true }).waitFor();
  await login.waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.id), "server-demo", "the focus stays beside it");
  const end = await set.running.call("GET", `/api/v1/logins/${started.flow_id}`);
  assert.equal(JSON.parse(end.text).state, "cancelled");
  await set.world.approve();
  await beginElsewhere(set, { way: "browser" });
  await login.getByRole("link", { name: "Open the provider’s page" }).waitFor();
  const { stdout } = await set.place.everfresh("login", "demo", "--cancel");
  assert.equal(stdout, "demo: the login that was under way is taken back\n");
  await login.waitFor({ state: "detached" });
  assert.equal((await set.running.server("demo")).token, null, "nothing of them came to anything");
  await press(page, "Log in: demo");
  await page.locator("#server-demo.healthy").waitFor();
}

async function showsRefusedLogins(set) {
  await set.running.call("POST", "/api/v1/servers", { name: "demo", url: set.world.upstream });
  const page = await set.open();
  await set.world.switches({ fault: { kind: "error", status: 400, error: "invalid_grant" } });
  set.seen.expectedErrors.push(/status of (400|502|422)/);
  await press(page, "Log in: demo");
  await page.locator("#server-demo .notice.error").waitFor();
  await press(page, "Dismiss: the message on demo");
  assert.equal(await page.locator("#server-demo .notice").count(), 0);
  await set.world.down();
  await press(page, "Log in: demo");
  await page.locator("#server-demo .notice.error").waitFor();
}

/** What is told of a login may come in any order: its end is shown all the same. */
async function showsEndsThatOvertake(set) {
  await set.running.call("POST", "/api/v1/servers", { name: "demo", url: set.world.upstream });
  const page = await set.open();
  await set.world.switches({ fault: { kind: "error", status: 400, error: "invalid_grant" } });
  set.seen.expectedErrors.push(/status of (400|404|502|422)/);
  let asked = null;
  const isAsked = new Promise((resolve) => { asked = resolve; });
  await set.context.route("**/api/v1/servers/demo/login", async (route) => {
    const request = route.request();
    if (request.method() === "POST") {
      // The daemon tells of the login before it answers who began it.
      const answer = await route.fetch({ headers: { ...await request.allHeaders(), "sec-fetch-site": "same-origin" } });
      await isAsked;
      return route.fulfill({ response: answer });
    }
    asked();
    while ((await set.running.server("demo")).login.pending) await new Promise((resolve) => { setTimeout(resolve, 20); });
    return route.continue();
  });
  await press(page, "Log in: demo");
  await page.locator("#server-demo .notice.error").waitFor();
  assert.equal(await page.getByRole("region", { name: "Login under way: demo", exact: true }).count(), 0);
}

async function showsNeededScopes(set) {
  await set.logIn();
  const page = await set.open();
  const scope = "<img/src=x/onerror=alert(1)>";
  await set.world.switches({ upstream: { kind: "wants_scope", scope } });
  const message = { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "add", arguments: { a: 1, b: 2 } } };
  await set.running.call("POST", "/mcp/demo", message);
  await page.getByText(`Missing permission: ${scope}`).waitFor();
  await page.getByText("The next login asks for it.").waitFor();
  assert.equal(await page.locator("main img").count(), 0, "a scope is text");
}

async function connectsClients(set) {
  await set.logIn();
  await set.context.grantPermissions(["clipboard-write"], { origin: set.url });
  // The page itself must not read the clipboard: another one does.
  await set.context.grantPermissions(["clipboard-read"], { origin: set.world.issuer });
  const reader = await set.context.newPage();
  // What is no document of ours names no icon: the browser looks for one there.
  set.seen.expectedErrors.push(/status of 404/);
  await reader.goto(`${set.world.issuer}/.well-known/oauth-authorization-server`);
  const page = await set.open();
  await press(page, "Connect: demo");
  const panel = page.locator("#server-demo-panel");
  const clients = await panel.locator("option").evaluateAll((options) => options.map(({ value }) => value));
  assert.equal(clients.length, 10);
  for (const client of clients) {
    await panel.getByLabel("Client").selectOption(client);
    await panel.getByText(`everfresh connect ${client} demo`, { exact: true }).waitFor();
  }
  for (const text of ['{ "command": "everfresh", "args": ["stdio", "demo"] }', "everfresh url demo", "everfresh token demo -o header"]) {
    await panel.locator(".copyable").filter({ hasText: text }).getByRole("button").click();
    await page.getByText("Copied.", { exact: true }).waitFor();
    await reader.bringToFront();
    await reader.waitForFunction(async (copied) => await navigator.clipboard.readText() === copied, text);
    await page.bringToFront();
  }
  const { stdout } = await set.place.everfresh("url", "demo");
  assert.ok(stdout.includes(set.running.key), "the command prints what the page must not have");
}

export const live = [
  ["a newcomer adds a server by the form, and logs in by clicking", addsAndLogsIn],
  ["refreshes are shown without a reload", showsRefreshes],
  ["an outage is shown, and so is its end", showsOutages],
  ["a dead login is shown, and a click leads to a new one", showsDeadLogins],
  ["the page says that the daemon is gone, and goes on when it is back", saysThatTheDaemonIsGone],
  ["another local key closes the page, and a new link opens it again", saysThatItWasClosed],
  ["logout and removal are asked for first", asksBeforeLogout],
  ["a server is disabled and enabled", switches],
  ["the journal tells every attempt while it is open", showsTheJournal],
  ["a login by device code shows the code until it has ended", logsInByCode],
  ["a login that began elsewhere is shown, and gone on with", goesOnWithLogins],
  ["a login under way is taken back by a click, and by a command", takesLoginsBack],
  ["a login that fails says why", showsRefusedLogins],
  ["a login that ends before its beginning is told is not shown for ever", showsEndsThatOvertake],
  ["scopes that the server demands are shown", showsNeededScopes],
  ["client set-up is copied, and has no secret", connectsClients],
];
