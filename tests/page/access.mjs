// Everybody can use the page: axe finds nothing, keys are enough, and nothing chatters or moves unasked.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { everyState, many, shown } from "./fixture.mjs";

const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const SCHEMES = ["light", "dark"];
const WIDTHS = [1180, 360];

/** Everything that axe objects to, in both colour schemes, wide and narrow. */
export async function findings(page) {
  const found = [];
  await page.evaluate(`window.axe || (() => { ${axe} })()`);
  for (const colorScheme of SCHEMES) {
    for (const width of WIDTHS) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      const { violations } = await page.evaluate((values) => window.axe.run(document, { runOnly: { type: "tag", values } }), TAGS);
      found.push(...violations.map(({ id, nodes }) => `${colorScheme} ${width}: ${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).slice(0, 3).join("\n  ")}`));
    }
  }
  return found;
}

async function expectNone(page, state) {
  const found = await findings(page);
  assert.deepEqual(found, [], state);
  console.log(`  axe: ${state}: nothing found in ${SCHEMES.length * WIDTHS.length} looks`);
}

async function passesAxe(set) {
  await shown(set.context, everyState());
  const page = await set.open();
  await page.locator(".past").first().waitFor();
  await expectNone(page, "servers in every state");
  for (const panel of ["Journal", "Connect", "Details", "Manage"]) {
    await page.getByRole("button", { name: `${panel}: linear`, exact: true }).click();
    await page.locator(`section[aria-label="${panel}: linear"]`).locator("td, option, dd, li").first().waitFor({ state: "attached" });
    await expectNone(page, panel);
  }
  await page.getByRole("button", { name: "Log out: linear", exact: true }).click();
  await page.getByRole("dialog").waitFor();
  await expectNone(page, "question before logout");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Add server", exact: true }).click();
  await page.getByText("More settings").click();
  set.seen.expectedErrors.push(/status of 422/);
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.locator("[aria-invalid]").waitFor();
  await expectNone(page, "form with an error");
}

async function passesAxeWhereThereIsNothing(set) {
  const page = await set.open();
  await page.getByRole("heading", { name: "No server yet" }).waitFor();
  await expectNone(page, "no server");
  set.seen.expectedErrors.push(/net::ERR_|status of 403/);
  await set.running.kill();
  await page.getByRole("alert").filter({ hasText: "The daemon does not answer." }).waitFor();
  await expectNone(page, "daemon gone");
  set.running = await set.place.daemon(set.running.port);
  const closed = await set.context.newPage();
  await closed.goto(`${set.url}/?once=0`);
  await set.context.clearCookies();
  await closed.goto(`${set.url}/?once=0`);
  await closed.getByRole("heading", { name: "The page is closed" }).waitFor();
  await expectNone(closed, "closed page");
  await page.close();
}

/** What has the focus, and whether one sees that. */
const focused = (page) => page.evaluate(() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  return { name: element.ariaLabel ?? element.textContent.trim(), tag: element.tagName, visible: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2 };
});

async function tabTo(page, name) {
  for (let steps = 0; steps < 60; steps += 1) {
    await page.keyboard.press("Tab");
    const found = await focused(page);
    assert.ok(found.tag === "BODY" || found.visible, `the focus on ${found.name} is not seen`);
    if (found.name === name) return;
  }
  assert.fail(`${name} is not reached with Tab`);
}

async function needsNoMouse(set) {
  await set.logIn();
  const page = await set.open();
  await page.locator("#server-demo.healthy").waitFor();
  await page.keyboard.press("Tab");
  assert.equal((await focused(page)).name, "Skip to the servers");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "servers");
  await page.evaluate(() => document.activeElement.blur());
  await page.reload();
  await page.locator("#server-demo.healthy").waitFor();
  await tabTo(page, "Add server");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "add-name", "typing can begin at once");
  await page.keyboard.press("Escape");
  await page.locator("dialog").waitFor({ state: "detached" });
  assert.equal((await focused(page)).name, "Add server", "the focus is where it was");
  await page.keyboard.press("Enter");
  await page.keyboard.type("second");
  await page.keyboard.press("Tab");
  await page.keyboard.type(set.world.upstream);
  await tabTo(page, "More settings");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Space");
  assert.equal(await page.locator("[name=login]").isChecked(), false);
  await page.keyboard.press("Enter");
  await page.locator("#server-second").waitFor();
  await page.locator("dialog").waitFor({ state: "detached" });
  await tabTo(page, "Journal: demo");
  await page.keyboard.press("Space");
  await page.locator("#server-demo-panel").waitFor();
  await page.getByRole("table").waitFor();
  assert.equal((await focused(page)).name, "Journal: demo", "the focus survives what is drawn anew");
  await set.running.call("POST", "/api/v1/servers/demo/refresh");
  await page.locator(".latest li").first().waitFor();
  assert.equal((await focused(page)).name, "Journal: demo", "and what the daemon tells");
  await page.getByRole("button", { name: "Refresh: demo", exact: true }).focus();
  await page.keyboard.press("Enter");
  await page.getByText("demo: refreshed.", { exact: true }).waitFor();
  assert.equal((await focused(page)).name, "Refresh: demo", "a button at work keeps the focus");
  await tabTo(page, "Manage: demo");
  await page.keyboard.press("Enter");
  await tabTo(page, "Log out: demo");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  assert.equal((await focused(page)).name, "Cancel", "what cannot be undone is not the first choice");
  await tabTo(page, "Log out");
  await page.keyboard.press("Enter");
  await page.locator("#server-demo.unhealthy").waitFor();
  await page.waitForFunction(() => document.activeElement.id === "server-demo");
}

async function findsWhatMatters(set) {
  await shown(set.context, many());
  const page = await set.open();
  await page.setViewportSize({ width: 360, height: 800 });
  await page.getByText("No login was without a token in the last 24 hours.").waitFor();
  assert.equal(await page.locator(".overall a").count(), 5, "the first line does not fill the screen");
  await page.screenshot({ path: "pictures/many-narrow.png" });
  await page.getByRole("button", { name: "Show all 10 that are unhealthy", exact: true }).click();
  await page.waitForFunction(() => document.querySelectorAll(".card").length === 10);
  assert.equal(await page.locator(".card.unhealthy").count(), 10);
  assert.equal(await page.getByLabel("Search").inputValue(), "unhealthy");
  await page.getByLabel("Search").fill("central-07");
  await page.waitForFunction(() => document.querySelectorAll(".card").length === 1);
  await page.locator(".overall a").first().click();
  await page.waitForFunction(() => document.querySelectorAll(".card").length === 30);
  assert.equal(await page.getByLabel("Search").inputValue(), "", "a link leads to what the search had left out");
}

async function isCalm(set) {
  await shown(set.context, everyState());
  const page = await set.open();
  await page.locator(".past").first().waitFor();
  const announced = await page.locator(":is([role=status], [role=alert], [aria-live]) time[data-as=distance]").count();
  assert.equal(announced, 0, "what ticks is not announced");
  const ticking = page.locator("#server-notion .words time");
  const before = await ticking.first().textContent();
  await page.waitForFunction(([selector, text]) => document.querySelector(selector).textContent !== text, ["#server-notion .words time", before]);
  const moves = () => page.evaluate(() => getComputedStyle(document.querySelector(".life"), "::before").transitionDuration);
  await page.emulateMedia({ reducedMotion: "reduce" });
  assert.equal(await moves(), "0s");
  await page.emulateMedia({ reducedMotion: "no-preference" });
  assert.equal(await moves(), "1s");
}

async function isReadInOrder(set) {
  await shown(set.context, everyState());
  const page = await set.open();
  await page.setViewportSize({ width: 1180, height: 4000 });
  await page.locator("#server-zapier .past").waitFor();
  for (const landmark of ["banner", "navigation", "main"]) assert.equal(await page.getByRole(landmark).count(), 1, landmark);
  assert.deepEqual(await page.locator("h1").allTextContents(), ["everfresh"]);
  const words = async (name) => page.locator(`#server-${name} svg[role=img]`).getAttribute("aria-label");
  assert.equal(await words("linear"), "Last 24 hours: valid all of the last 24 hours; 30 refreshes");
  assert.match(await words("notion"), /^Last 24 hours: without a token for 5 min in all, 2 times, since .*; refreshes are failing; \d+ refreshes, 1\d failed$/);
  assert.match(await words("asana"), /^Last 24 hours: never without a token; everfresh not running for 1 h 30 min; /);
  assert.match(await words("sentry"), /^Last 24 hours: without a token for 6 h, since /);
  assert.match(await words("slack"), /logged out for 3 h/);
  assert.equal(await words("figma"), "Last 24 hours: nothing recorded yet", "states of later versions");
  const lapses = page.getByText("Without a token in the last 24 hours:");
  assert.deepEqual(await lapses.getByRole("link").allTextContents(), ["notion", "sentry"], "one sees it at once, whoever it was");
  for (const level of ["Healthy", "Degraded", "Unhealthy", "Disabled"]) assert.ok(await page.locator(".level", { hasText: level }).count(), "each level has its word");
}

async function fits(set) {
  for (const state of [everyState, many]) {
    await set.context.unrouteAll();
    await shown(set.context, state());
    const page = await set.open();
    for (const width of [1600, 1180, 768, 360, 320]) {
      await page.setViewportSize({ width, height: 800 });
      await page.locator(".past").first().waitFor();
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${over} px too wide at ${width} px`);
      const lapping = await page.locator(".hours").first().evaluate((hours) => hours.scrollHeight > hours.clientHeight);
      assert.ok(!lapping, `the hours lie over the words below at ${width} px`);
    }
    await page.close();
  }
}

export const access = [
  ["axe finds nothing in any state", passesAxe],
  ["axe finds nothing where there is nothing", passesAxeWhereThereIsNothing],
  ["the keyboard is enough", needsNoMouse],
  ["what matters is found among many", findsWhatMatters],
  ["what ticks is not announced, and nothing moves for those who want that", isCalm],
  ["a screen reader hears what the drawings show", isReadInOrder],
  ["it fits on every screen", fits],
];
