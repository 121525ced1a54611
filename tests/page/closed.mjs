// Who has no business here, and what servers and providers may try to make of the page.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { hostile, shown } from "./fixture.mjs";

async function keepsStrangersOut(set) {
  set.seen.expectedErrors.push(/status of 403/);
  const page = await set.context.newPage();
  const says = async (link, words) => {
    const answer = await page.goto(link);
    assert.equal(answer.status(), 403);
    await page.getByText(words).waitFor();
    assert.equal(await page.locator("script").count(), 0);
  };
  await says(set.url, "To open it, run: everfresh open");
  await says(`${set.url}/?once=${"0".repeat(64)}`, "This link was used before, or is too old. Run: everfresh open");
  const link = await set.running.link();
  await page.goto(link);
  await page.getByText("Live", { exact: true }).waitFor();
  assert.equal(page.url(), `${set.url}/`, "the link does not stay in the address bar");
  await set.context.clearCookies();
  await says(link, "This link was used before");
  await set.context.addCookies([{ name: "everfresh", value: "0", url: set.url }]);
  await says(set.url, "To open it, run: everfresh open");
  for (const key of ["", "wrong"]) {
    const answer = await fetch(`${set.url}/api/v1/servers`, { headers: { "x-everfresh-key": key } });
    assert.equal(answer.status, 403);
  }
}

async function neverGetsTokens(set) {
  await set.logIn();
  const page = await set.open();
  set.seen.expectedErrors.push(/status of 403/);
  for (const path of ["/api/v1/servers/demo/token", "/mcp/demo"]) {
    const told = await page.evaluate(async (path) => {
      const answer = await fetch(path, { headers: { "X-Everfresh-Page": localStorage.getItem("everfresh-page") } });
      return [answer.status, (await answer.json()).type];
    }, path);
    assert.deepEqual(told, [403, "urn:everfresh:problem:key-needed"], path);
  }
  const [cookie] = await set.context.cookies(set.url);
  assert.ok(cookie.httpOnly && cookie.sameSite === "Strict", "scripts cannot read the cookie");
}

/** Whoever listens at another port of this machine is sent the cookie, and can send it on with any header. */
async function outlivesTheftOfItsCookie(set) {
  await set.logIn();
  const page = await set.open();
  await page.locator("#server-demo.healthy").waitFor();
  const other = createServer((request, response) => {
    other.sent = request.headers.cookie;
    response.setHeader("content-type", "text/html").end('<title>elsewhere</title><link rel="icon" href="data:,">');
  }).listen(0, "127.0.0.1");
  await once(other, "listening");
  const place = `http://127.0.0.1:${other.address().port}`;
  set.seen.allowed.push(place);
  const elsewhere = await set.context.newPage();
  await elsewhere.goto(place);
  assert.equal(await elsewhere.evaluate(() => localStorage.length), 0, "what the page has stored is not told there");
  other.close();
  assert.match(other.sent, /^everfresh-\w+=/, "or this test shows nothing");
  const as = { cookie: other.sent, "sec-fetch-site": "same-origin", "content-type": "application/json" };
  for (const [method, path] of [["GET", "/events"], ["GET", "/api/v1/servers"], ["POST", "/api/v1/servers/demo/logout"], ["POST", "/api/v1/page-link"]]) {
    const answer = await set.running.send(method, path, as);
    assert.equal(answer.status, 403, path);
  }
  const document = await set.running.send("GET", "/", as);
  assert.equal(document.status, 200);
  const proof = await page.evaluate(() => localStorage.getItem("everfresh-page"));
  assert.ok(proof.length > 40 && !document.text.includes(proof) && !page.url().includes(proof));
  assert.equal((await set.running.server("demo")).health.reason, "ok");
}

async function showsMarkupAsText(set) {
  await shown(set.context, hostile());
  const page = await set.open();
  await page.locator(".card").first().waitFor();
  for (const panel of ["Journal", "Details", "Manage", "Connect"]) {
    await page.getByRole("button", { name: `${panel}: ${hostile().servers[0].name}`, exact: true }).click();
    await page.locator(".panel").waitFor();
  }
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator("main :is(img, script, iframe)").count(), 0);
  const links = await page.locator("a").evaluateAll((all) => all.map((link) => link.protocol));
  assert.deepEqual(links.filter((protocol) => protocol !== "http:"), []);
}

async function sendsNobodyToScripts(set) {
  await set.running.call("POST", "/api/v1/servers", { name: "demo", url: set.world.upstream });
  const started = { authorization_url: "javascript:window.hacked=1", device: null, flow_id: "1", began_at: "2029-12-31T23:50:00Z", expires_at: "2030-01-01T00:00:00Z", redirect_uri: null };
  await set.context.route("**/login", (route) => route.fulfill({ json: started }));
  await set.context.route("**/logins/*", () => null);
  const page = await set.open();
  const opened = set.context.waitForEvent("page");
  await page.getByRole("button", { name: "Log in: demo", exact: true }).click();
  await page.locator("#server-demo .waiting .error", { hasText: "not a web address" }).waitFor();
  assert.equal(await page.locator("#server-demo .waiting a").count(), 0);
  const tab = await opened;
  if (!tab.isClosed()) await tab.waitForEvent("close");
  assert.equal(await page.evaluate(() => window.hacked), undefined);
}

async function isHardened(set) {
  const page = await set.open();
  await page.getByText("Live", { exact: true }).waitFor();
  // Scripts and styles that were not in the binary do nothing, and texts do not become markup.
  set.seen.expectedErrors.push(/Content Security Policy|Trusted(HTML|Script|Type)/);
  const made = await page.evaluate(() => {
    const tried = [];
    const attempt = (name, act) => { try { act(); tried.push(name); } catch { /* As it should. */ } };
    attempt("innerHTML", () => { document.body.innerHTML = "<b>x</b>"; });
    attempt("eval", () => window.setTimeout("window.hacked = 1", 0));
    const script = document.createElement("script");
    attempt("script", () => { script.textContent = "window.hacked = 1"; });
    document.body.append(script);
    return [tried, window.hacked];
  });
  assert.deepEqual(made, [[], undefined]);
  const reached = await page.evaluate(async (url) => fetch(url).then(() => true, () => false), `${set.world.issuer}/authorize`);
  assert.equal(reached, false, "the page talks to its own daemon only");
  const { headers } = await set.running.call("GET", "/");
  for (const name of ["content-security-policy", "permissions-policy", "cross-origin-opener-policy", "cross-origin-resource-policy", "x-frame-options"]) {
    assert.ok(headers.get(name), name);
  }
  // A script alone names no icon: the browser looks for one.
  set.seen.expectedErrors.push(/status of 404/);
  const shared = await page.goto(`${set.url}/page/app.js`);
  assert.equal(shared.headers()["cache-control"], "private, no-cache");
}

export const closed = [
  ["nobody gets in without a fresh link", keepsStrangersOut],
  ["the page cannot get at tokens", neverGetsTokens],
  ["a cookie that was sent to another port opens nothing", outlivesTheftOfItsCookie],
  ["markup that servers and providers send stays text", showsMarkupAsText],
  ["a login leads to web addresses only", sendsNobodyToScripts],
  ["policies hold against what is injected", isHardened],
];
