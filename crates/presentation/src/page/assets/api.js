// Calls of the API, and what it says when it refuses.

import { proof } from "./opened.js";

/** A refusal in the API's words: `pointer` names the member of the request that it is about. */
class Refusal extends Error {
  constructor(status, { detail, title, pointer }) {
    super(detail ?? title ?? `The daemon answered with status ${status}.`);
    this.pointer = pointer;
  }
}

/** A call that no answer came to. */
export class Unreachable extends Error {
  constructor() {
    super("The daemon does not answer. Start it with: everfresh serve");
  }
}

async function call(method, path, body) {
  const options = { method, cache: "no-store", headers: proof() };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(`/api/v1/${path}`, options).catch(() => { throw new Unreachable(); });
  const answer = response.status === 204 ? null : await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response.status, answer);
  return answer;
}

const at = (name, rest = "") => `servers/${encodeURIComponent(name)}${rest}`;

export const addServer = (server) => call("POST", "servers", server);
export const removeServer = (name) => call("DELETE", at(name));
export const act = (name, action) => call("POST", at(name, `/${action}`));
export const startLogin = (name, way) => call("POST", at(name, "/login"), way ? { way } : undefined);
export const pendingLogin = (name) => call("GET", at(name, "/login"));
export const cancelLogin = (flow) => call("DELETE", `logins/${flow}`);
export const loginOutcome = (flow) => call("GET", `logins/${flow}`);
export const journal = (name) => call("GET", at(name, "/journal?limit=50"));
export const timeline = (name) => call("GET", at(name, "/timeline?hours=24"));
