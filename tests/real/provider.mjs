// A certified authorization server (npm: oidc-provider) and a protected MCP server made with the
// official SDK. The person at the provider always says yes.

import express from "express";
import { Provider } from "oidc-provider";
import { randomUUID } from "node:crypto";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { SSEServerTransport } from "@modelcontextprotocol/sdk/server/sse.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { InvalidTokenError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { z } from "zod";

const listen = (app) => new Promise((resolve) => {
  const server = app.listen(0, "127.0.0.1", () => resolve(server));
});

/** The authorization server; `seen` counts what it does. */
async function startProvider(ttl, seen) {
  const app = express();
  const server = await listen(app);
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({ scope: "read", accessTokenTTL: ttl, accessTokenFormat: "opaque" }),
        useGrantedResource: () => true,
      },
    },
    scopes: ["openid", "offline_access", "read"],
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed("refresh_token"),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    ttl: { AccessToken: ttl, Grant: 86400, Interaction: 600, RefreshToken: 86400, Session: 86400 },
    cookies: { keys: [randomUUID()] },
  });
  provider.on("registration_create.success", () => { seen.registrations += 1; });
  provider.on("authorization.success", () => { seen.authorizations += 1; });
  provider.on("grant.success", (ctx) => {
    if (ctx.oidc.params.grant_type === "refresh_token") seen.refreshes += 1;
  });
  provider.on("grant.error", (_ctx, error) => {
    seen.refused += 1;
    console.error("provider:", error.error, error.error_description ?? "");
  });
  app.get("/interaction/:uid", async (request, response) => {
    const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
    if (prompt.name === "login") {
      await provider.interactionFinished(request, response, { login: { accountId: "alice" } });
      return;
    }
    const grant = grantId
      ? await provider.Grant.find(grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    const missing = prompt.details;
    if (missing.missingOIDCScope) grant.addOIDCScope(missing.missingOIDCScope.join(" "));
    for (const [indicator, scopes] of Object.entries(missing.missingResourceScopes ?? {})) {
      grant.addResourceScope(indicator, scopes.join(" "));
    }
    const result = { consent: { grantId: await grant.save() } };
    await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
  });
  app.use(provider.callback());
  return { issuer, provider, server };
}

/** An MCP server with one tool. */
function tools(seen) {
  const server = new McpServer({ name: "real", version: "1.0.0" });
  const add = { description: "Adds", inputSchema: { a: z.number(), b: z.number() } };
  server.registerTool("add", add, async ({ a, b }) => {
    seen.calls += 1;
    return { content: [{ type: "text", text: String(a + b) }] };
  });
  return server;
}

/** Starts both. Access tokens live `ttl` seconds, refresh tokens rotate. */
export async function start(ttl) {
  const seen = { registrations: 0, authorizations: 0, refreshes: 0, refused: 0, sessions: 0, calls: 0 };
  const upstream = express();
  const upstreamServer = await listen(upstream);
  const origin = `http://127.0.0.1:${upstreamServer.address().port}`;
  const resource = `${origin}/mcp`;
  // Of HTTP+SSE: its endpoint lies outside the path of its stream.
  const legacy = `${origin}/sse`;
  const { issuer, provider, server } = await startProvider(ttl, seen);

  const verifier = {
    async verifyAccessToken(text) {
      const token = await provider.AccessToken.find(text);
      const good = token && !token.isExpired && [token.aud].flat().some((audience) => [resource, legacy].includes(audience));
      if (!good) throw new InvalidTokenError("not good here");
      return { token: text, clientId: token.clientId, scopes: (token.scope ?? "").split(" "), expiresAt: token.exp };
    },
  };
  upstream.get("/.well-known/oauth-protected-resource/mcp", (_request, response) => {
    response.json({ resource, authorization_servers: [issuer], scopes_supported: ["read"] });
  });
  const resourceMetadataUrl = `${origin}/.well-known/oauth-protected-resource/mcp`;
  upstream.get("/.well-known/oauth-protected-resource/sse", (_request, response) => {
    response.json({ resource: legacy, authorization_servers: [issuer], scopes_supported: ["read"] });
  });
  const guard = requireBearerAuth({ verifier, requiredScopes: ["read"], resourceMetadataUrl });
  const sessions = new Map();
  upstream.all("/mcp", guard, express.json(), async (request, response) => {
    let transport = sessions.get(request.headers["mcp-session-id"]);
    if (!transport) {
      seen.sessions += 1;
      transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: () => randomUUID(),
        onsessioninitialized: (made) => { sessions.set(made, transport); },
      });
      await tools(seen).connect(transport);
    }
    await transport.handleRequest(request, response, request.body);
  });
  const streams = new Map();
  upstream.get("/sse", guard, async (_request, response) => {
    const transport = new SSEServerTransport("/messages", response);
    streams.set(transport.sessionId, transport);
    await tools(seen).connect(transport);
  });
  upstream.post("/messages", guard, express.json(), async (request, response) => {
    await streams.get(request.query.sessionId).handlePostMessage(request, response, request.body);
  });
  const stop = () => {
    for (const running of [upstreamServer, server]) {
      running.closeAllConnections();
      running.close();
    }
  };
  return { issuer, resource, legacy, seen, stop };
}
