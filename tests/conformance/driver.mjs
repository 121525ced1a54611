// The client under test: a plain MCP client that has no token, everfresh between it and the
// scenario's server, and a person who logs in where a call asks for it.
//
// The suite appends the server's URL and tells the scenario in the environment.

import assert from "node:assert/strict";
import { Client, ProtocolError, SdkHttpError, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { Everfresh } from "./everfresh.mjs";

const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
const isModern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === "2026-07-28";

/** A person's patience: how often one scenario may send them to the browser. */
const LOGINS_MAX = 3;

/** How long a story may take, in milliseconds: the suite's own limit would leave a daemon behind. */
const STORY_MS = 80_000;

/** The JSON-RPC error code of everything that everfresh itself says. */
const EVERFRESH = -32001;

/** How the login ends there: the command exits with 1 or 3, or the server still says 403. */
const isRefusal = (error) => {
  console.error(error.stderr ?? error.message);
  return [1, 3].includes(error.code) || error.status === 403;
};

/** Scenarios whose authorization server or resource must not be trusted, or never has enough. */
const REFUSED = new Set([
  "auth/resource-mismatch",
  "auth/iss-supported-missing",
  "auth/iss-wrong-issuer",
  "auth/iss-unexpected",
  "auth/iss-normalized",
  "auth/metadata-issuer-mismatch",
  "auth/scope-retry-limit",
]);

/** What a user would write below `[servers.it.oauth]`, where the scenario hands out credentials. */
function configured() {
  const id = { client_id: context.client_id };
  const secret = { client_secret: { env: "CLIENT_SECRET" } };
  switch (scenario) {
    case "auth/pre-registration":
      return { "servers.it.oauth": { ...id, ...secret } };
    case "auth/client-credentials-basic":
      return { "servers.it.oauth": { grant: "client_credentials", ...id, ...secret } };
    case "auth/client-credentials-jwt": {
      const key = { private_key: { env: "PRIVATE_KEY" }, signing_alg: context.signing_algorithm ?? "ES256" };
      return { "servers.it.oauth": { grant: "client_credentials", ...id, ...key } };
    }
    case "auth/wif-jwt-bearer":
      return { "servers.it.oauth": { grant: "jwt_bearer", ...id, assertion: { env: "ASSERTION" } } };
    case "auth/enterprise-managed-authorization":
      return {
        "servers.it.oauth": { grant: "enterprise_managed", ...id, ...secret },
        "servers.it.oauth.identity_provider": {
          token_endpoint: context.idp_token_endpoint, client_id: context.idp_client_id, id_token: { env: "ID_TOKEN" },
        },
      };
    default:
      return {};
  }
}

setTimeout(() => {
  console.error(`${scenario}: not within ${STORY_MS} ms`);
  process.exit(1);
}, STORY_MS);

const everfresh = await Everfresh.start(
  {
    login: { client_id_metadata_url: "https://conformance-test.local/client-metadata.json" },
    "servers.it": { url: process.argv[2] },
    ...configured(),
  },
  {
    environment: {
      CLIENT_SECRET: context.client_secret ?? "",
      PRIVATE_KEY: context.private_key_pem ?? "",
      ASSERTION: context.valid_jwt ?? "",
      ID_TOKEN: context.idp_id_token ?? "",
    },
    log: process.env.EVERFRESH_LOG_FILE,
  },
);

/**
 * Whether a person would answer this error by logging in: because it says so, because a permission
 * is missing, or because everfresh says so where the client's error does not (one that looks for the
 * server's revision takes every error for an old revision, and tells what it met there).
 */
async function asksForLogin(error) {
  if (error instanceof SdkHttpError && error.status === 403) return true;
  if (error instanceof ProtocolError && error.code === EVERFRESH) return error.data.action === "login";
  const { servers: [{ health }] } = JSON.parse(await everfresh.command("list", "-o", "json"));
  return health.action === "login";
}

let logins = 0;

/** Makes a call, and makes it again after each login that its answer asks for. */
async function attended(call) {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      console.error(`${error.constructor.name}: ${error.message}`);
      if (logins === LOGINS_MAX || !(await asksForLogin(error))) throw error;
      logins += 1;
      console.error(await everfresh.command("login", "it", "--timeout", "20s"));
    }
  }
}

/** A connected client. `discovered` answers for servers of the suite that know no `server/discover`. */
async function connected({ capabilities = {}, discovered, handle = () => {} } = {}) {
  const url = await everfresh.url("it");
  return attended(async () => {
    const negotiation = isModern ? { versionNegotiation: { mode: "auto" } } : {};
    const client = new Client({ name: "conformance", version: "1.0.0" }, { capabilities, ...negotiation });
    handle(client);
    await client.connect(new StreamableHTTPClientTransport(url, discovered ? { fetch: discovered } : {}));
    return client;
  });
}

/** Answers `server/discover` on the spot; everything else goes to the server. */
async function discoveredHere(input, init) {
  const message = typeof init?.body === "string" ? JSON.parse(init.body) : {};
  if (message.method !== "server/discover") return fetch(input, init);
  const result = {
    supportedVersions: ["2026-07-28"],
    capabilities: { tools: {}, resources: {}, prompts: {} },
    _meta: { "io.modelcontextprotocol/serverInfo": { name: "suite", version: "1.0.0" } },
  };
  return Response.json({ jsonrpc: "2.0", id: message.id, result });
}

/** Lists the tools, and calls the first. */
async function listAndCall() {
  const client = await connected();
  const { tools } = await attended(() => client.listTools());
  if (tools.length > 0) {
    await attended(() => client.callTool({ name: tools[0].name, arguments: { a: 2, b: 3 } }));
  }
  await client.close();
}

const stories = {
  async initialize() {
    const client = await connected();
    await client.listTools();
    await client.close();
  },

  async "request-metadata"() {
    const client = await connected({ capabilities: { roots: {}, sampling: {}, elicitation: {} } });
    await client.listTools();
    await client.close();
  },

  async "json-schema-ref-no-deref"() {
    const client = await connected();
    await client.listTools();
    await client.close();
  },

  async "elicitation-sep1034-client-defaults"() {
    const client = await connected({
      capabilities: { elicitation: { form: { applyDefaults: true } } },
      handle: (made) => made.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: {} })),
    });
    await client.listTools();
    await client.callTool({ name: "test_client_elicitation_defaults", arguments: {} });
    await client.close();
  },

  async "sse-retry"() {
    const client = await connected();
    await client.listTools();
    await client.callTool({ name: "test_reconnection", arguments: {} });
    await client.close();
  },

  async "json-schema-2020-12-preservation"() {
    const client = await connected();
    const { tools } = await client.listTools();
    const { inputSchema } = tools.find((tool) => tool.name === "json_schema_2020_12_tool");
    await client.callTool({ name: "json_schema_echo", arguments: { schema: inputSchema } });
    await client.close();
  },

  async "http-standard-headers"() {
    const client = await connected({ discovered: discoveredHere });
    const { tools } = await client.listTools();
    await client.callTool({ name: tools[0].name, arguments: {} });
    const { resources } = await client.listResources();
    await client.readResource({ uri: resources[0].uri });
    const { prompts } = await client.listPrompts();
    await client.getPrompt({ name: prompts[0].name, arguments: {} });
    await client.close();
  },

  async "http-custom-headers"() {
    const client = await connected({ discovered: discoveredHere });
    await client.listTools();
    for (const call of context.toolCalls) await client.callTool(call);
    await client.close();
  },

  async "http-invalid-tool-headers"() {
    const client = await connected({ discovered: discoveredHere });
    const { tools } = await client.listTools();
    for (const { name } of tools) await client.callTool({ name, arguments: { region: "us-west1" } });
    await client.close();
  },

  async "sep-2322-client-request-state"() {
    const client = await connected({
      capabilities: { elicitation: {} },
      discovered: discoveredHere,
      handle: (made) =>
        made.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: { confirmed: true } })),
    });
    for (const name of ["test_mrtr_echo_state", "test_mrtr_no_state", "test_mrtr_unrelated"]) {
      await client.callTool({ name, arguments: {} });
    }
    // A result without `resultType` is an error to this SDK; what matters is that it is not sent again.
    await client.callTool({ name: "test_mrtr_no_result_type", arguments: {} }).catch(() => {});
    await client.close();
  },
};

try {
  const story = stories[scenario] ?? listAndCall;
  if (REFUSED.has(scenario)) await assert.rejects(story(), isRefusal);
  else await story();
  console.error(`${scenario}: ${logins} logins`);
} finally {
  await everfresh.stop();
}
process.exit(0);
