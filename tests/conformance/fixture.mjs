// An MCP server of both eras on one URL: sessions with an `initialize` handshake and resumable
// streams (2025-11-25), and requests that stand alone (2026-07-28).

import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { localhostHostValidation, NodeStreamableHTTPServerTransport, toNodeHandler } from "@modelcontextprotocol/node";
import { classifyInboundRequest, createMcpHandler } from "@modelcontextprotocol/server";
import { mcpServer } from "./fixture-mcp.mjs";

/** When a client may come back for a stream that was closed, in milliseconds. */
const RETRY_MS = 500;

const sessions = new Map();
const hooks = {
  changed: (kind) => (kind === "tool" ? modern.notify.toolsChanged() : modern.notify.promptsChanged()),
  polled: (session, id) => sessions.get(session)?.closeSSEStream(id),
};
const modern = createMcpHandler(() => mcpServer(hooks), { onerror: (error) => console.error(error.message) });
const serveModern = toNodeHandler(modern);
const isLocal = localhostHostValidation();

/** Keeps the events of a session's streams for those who come back with `Last-Event-ID`. */
function eventStore() {
  const events = [];
  return {
    async storeEvent(stream, message) {
      return String(events.push({ stream, message }) - 1);
    },
    async replayEventsAfter(last, { send }) {
      const { stream } = events[Number(last)];
      for (const [id, event] of events.entries()) {
        if (id > Number(last) && event.stream === stream) await send(String(id), event.message);
      }
      return stream;
    },
  };
}

/** A session that begins with its first request. */
async function session() {
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    eventStore: eventStore(),
    retryInterval: RETRY_MS,
    onsessioninitialized: (id) => { sessions.set(id, transport); },
  });
  transport.onclose = () => sessions.delete(transport.sessionId);
  await mcpServer(hooks).connect(transport);
  return transport;
}

function refuse(response, status, code, message) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ jsonrpc: "2.0", error: { code, message }, id: null }));
}

async function serve(request, response) {
  if (!isLocal(request, response)) return;
  const { "mcp-session-id": id, "mcp-protocol-version": version, "mcp-method": method } = request.headers;
  let body;
  if (request.method === "POST") {
    body = await json(request).catch(() => undefined);
    if (body === undefined) return refuse(response, 400, -32700, "no JSON");
    const told = { httpMethod: "POST", protocolVersionHeader: version, mcpMethodHeader: method, body };
    if (classifyInboundRequest(told).kind !== "legacy") return serveModern(request, response, body);
  }
  const known = sessions.get(id);
  if (id && !known) return refuse(response, 404, -32001, "no such session");
  if (!known && body?.method !== "initialize") return refuse(response, 400, -32000, "a session id is needed");
  await (known ?? await session()).handleRequest(request, response, body);
}

const server = createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    if (!response.headersSent) refuse(response, 500, -32603, "internal error");
  });
});
server.listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
