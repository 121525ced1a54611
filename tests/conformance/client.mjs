// The client leg: every scenario that the suite has for a client, with everfresh between.

import { cpus } from "node:os";
import { join } from "node:path";
import { clientScenario, requirements, REVISIONS } from "./suite.mjs";

/** Scenarios of the revision before protected resources had metadata. */
const BACK_COMPAT = ["auth/2025-03-26-oauth-metadata-backcompat", "auth/2025-03-26-oauth-endpoint-fallback"];

/**
 * Scenarios that do not pass, each with the reason. One of them that passes fails the leg: it has no
 * place here any more.
 */
const UNMET = {};

/** The sets: a title, the revision on the wire, and the scenarios. */
async function sets() {
  const found = [{ title: "2025-03-26 back-compat", revision: "2025-03-26", scenarios: BACK_COMPAT }];
  for (const revision of REVISIONS) {
    const { client, extensions } = await requirements(revision);
    found.push({ title: revision, revision, scenarios: client });
    found.push({ title: `${revision} extensions`, revision, scenarios: extensions });
  }
  return found;
}

/** Runs the scenarios, two for each core at a time: most of their time is waiting. */
export async function clientLeg(only, out, say) {
  const chosen = (await sets()).map((set) => ({
    ...set, passed: 0, unmet: 0, checks: 0, failed: [], scenarios: set.scenarios.filter((name) => !only || name === only),
  }));
  const queue = chosen.flatMap((set) => set.scenarios.map((scenario) => ({ set, scenario })));
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      const { set, scenario } = job;
      const { passed, wrong } = await clientScenario(scenario, set.revision, join(out, set.title.replaceAll(" ", "-"), scenario));
      set.checks += passed;
      if (wrong.length === 0) set.passed += 1;
      const told = wrong.map((text) => `${scenario} (${set.title}): ${text}`);
      if (!UNMET[scenario]) set.failed.push(...told);
      else if (wrong.length === 0) set.failed.push(`${scenario} (${set.title}): passes, and is on the list of those that do not`);
      else set.unmet += 1;
      const how = wrong.length === 0 ? "green" : UNMET[scenario] ? `unmet: ${UNMET[scenario]}` : "RED";
      say(`client ${set.title}: ${scenario}: ${how}`);
    }
  };
  await Promise.all(Array.from({ length: 2 * cpus().length }, worker));
  return chosen.filter((set) => set.scenarios.length > 0).map((set) => ({
    title: `client ${set.title}`,
    result: `${set.passed} of ${set.scenarios.length} scenarios (${set.checks} checks)${set.unmet > 0 ? `, ${set.unmet} unmet for known reasons` : ""}`,
    failed: set.failed,
  }));
}
