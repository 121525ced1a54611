// A protected resource and its authorization server, in front of an MCP server that knows neither:
// access tokens of two seconds, refresh tokens that are used once (a second use ends the login, as
// RFC 9700 section 4.14.2 has it), and a count of everything that happens.

import { createHash, randomBytes } from "node:crypto";
import { createServer, request as passOn } from "node:http";
import { text } from "node:stream/consumers";

/** How long access tokens live, in seconds. */
export const LIFETIME = 2;

const made = (kind) => `${kind}-${randomBytes(24).toString("base64url")}`;

/** What the authorization server knows. Its person always says yes. */
class Logins {
  counts = { registrations: 0, authorizations: 0, refreshes: 0, reuses: 0, refusals: 0, unauthorized: 0 };
  #clients = new Set();
  #codes = new Map();
  #refresh = new Map();
  #access = new Map();

  register(metadata) {
    this.counts.registrations += 1;
    const client_id = made("client");
    this.#clients.add(client_id);
    return { ...metadata, client_id, client_id_issued_at: Math.floor(Date.now() / 1000) };
  }

  authorize(asked) {
    this.counts.authorizations += 1;
    const code = made("code");
    this.#codes.set(code, { client: asked.get("client_id"), challenge: asked.get("code_challenge") });
    return code;
  }

  /** New tokens for a code or a refresh token, or nothing. */
  token(asked) {
    const family = asked.get("grant_type") === "refresh_token" ? this.#refreshed(asked) : this.#exchanged(asked);
    if (!family || family.client !== asked.get("client_id")) {
      this.counts.refusals += 1;
      return undefined;
    }
    const [access_token, refresh_token] = [made("access"), made("refresh")];
    this.#access.set(access_token, { family, until: Date.now() + LIFETIME * 1000 });
    this.#refresh.set(refresh_token, { family, isUsed: false });
    return { access_token, refresh_token, token_type: "Bearer", expires_in: LIFETIME };
  }

  #exchanged(asked) {
    const given = this.#codes.get(asked.get("code"));
    this.#codes.delete(asked.get("code"));
    const challenge = createHash("sha256").update(asked.get("code_verifier") ?? "").digest("base64url");
    return given?.challenge === challenge && this.#clients.has(given.client)
      ? { client: given.client, isRevoked: false } : undefined;
  }

  #refreshed(asked) {
    const known = this.#refresh.get(asked.get("refresh_token"));
    if (!known || known.family.isRevoked) return undefined;
    if (known.isUsed) {
      this.counts.reuses += 1;
      known.family.isRevoked = true;
      return undefined;
    }
    this.counts.refreshes += 1;
    known.isUsed = true;
    return known.family;
  }

  admits(authorization = "") {
    const known = this.#access.get(authorization.replace(/^Bearer /, ""));
    const isGood = known !== undefined && !known.family.isRevoked && Date.now() < known.until;
    if (!isGood) this.counts.unauthorized += 1;
    return isGood;
  }
}

/** Passes a request on to the server behind, and ends whatever the other side gave up. */
function pass(request, response, behind) {
  const { authorization, ...headers } = request.headers;
  const options = { method: request.method, headers: { ...headers, host: behind.host } };
  const onward = passOn(new URL(request.url, behind), options, (answer) => {
    response.writeHead(answer.statusCode, answer.rawHeaders);
    response.flushHeaders();
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
}

function answer(response, status, body, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store", ...headers });
  response.end(JSON.stringify(body));
}

/** Starts both in front of the server at `behind`. */
export async function startFront(behind) {
  const logins = new Logins();
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const resource = new URL(behind.pathname, issuer).href;
  const described = `${issuer}/.well-known/oauth-protected-resource${behind.pathname}`;
  const metadata = {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    registration_endpoint: `${issuer}/register`,
    response_types_supported: ["code"],
    grant_types_supported: ["authorization_code", "refresh_token"],
    code_challenge_methods_supported: ["S256"],
    token_endpoint_auth_methods_supported: ["none"],
  };
  const routes = {
    [new URL(described).pathname]: (_url, _request, response) =>
      answer(response, 200, { resource, authorization_servers: [issuer] }),
    "/.well-known/oauth-authorization-server": (_url, _request, response) => answer(response, 200, metadata),
    "/register": async (_url, request, response) =>
      answer(response, 201, logins.register(JSON.parse(await text(request)))),
    "/authorize": (url, _request, response) => {
      const back = new URL(url.searchParams.get("redirect_uri"));
      back.searchParams.set("code", logins.authorize(url.searchParams));
      back.searchParams.set("state", url.searchParams.get("state"));
      response.writeHead(302, { location: back.href }).end();
    },
    "/token": async (_url, request, response) => {
      const tokens = logins.token(new URLSearchParams(await text(request)));
      answer(response, tokens ? 200 : 400, tokens ?? { error: "invalid_grant" });
    },
    [behind.pathname]: (_url, request, response) => {
      if (logins.admits(request.headers.authorization)) return pass(request, response, behind);
      const challenge = `Bearer resource_metadata="${described}"`;
      return answer(response, 401, { error: "invalid_token" }, { "www-authenticate": challenge });
    },
  };
  server.on("request", (request, response) => {
    const url = new URL(request.url, issuer);
    const route = routes[url.pathname];
    if (route) route(url, request, response);
    else answer(response, 404, { error: "not_found" });
  });
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: new URL(resource), counts: logins.counts, stop };
}
