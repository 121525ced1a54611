// What the fixture offers: the tools, resources and prompts that the suite's server scenarios name.

import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import {
  acceptedContent, CLIENT_CAPABILITIES_META_KEY, createRequestStateCodec, fromJsonSchema, inputRequired, McpServer,
  ResourceTemplate,
} from "@modelcontextprotocol/server";

const IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const AUDIO = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

const text = (words) => ({ type: "text", text: words });
const image = { type: "image", data: IMAGE, mimeType: "image/png" };
const resource = (uri, words, mimeType = "text/plain") => ({ type: "resource", resource: { uri, mimeType, text: words } });
const said = (...parts) => ({ content: parts.map((part) => (typeof part === "string" ? text(part) : part)) });
const object = (properties = {}, required = []) => ({ type: "object", properties, required });

/** Proof that a client's `requestState` is one of ours; for the life of this process. */
const states = createRequestStateCodec({ key: crypto.getRandomValues(new Uint8Array(32)) });

/** Tools that answer at once, or say something on the way. */
const simple = {
  test_simple_text: () => said("This is a simple text response for testing."),
  test_image_content: () => said(image),
  test_audio_content: () => said({ type: "audio", data: AUDIO, mimeType: "audio/wav" }),
  test_embedded_resource: () => said(resource("test://embedded-resource", "This is an embedded resource content.")),
  test_multiple_content_types: () =>
    said("Several kinds:", image, resource("test://mixed-content-resource", '{"test":"data","value":123}', "application/json")),
  test_streaming_elicitation: () => said("nothing but this result"),
  test_error_handling: () => {
    throw new Error("This tool intentionally returns an error for testing");
  },
  async test_tool_with_logging(_given, { mcpReq }) {
    for (const data of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
      await mcpReq.notify({ method: "notifications/message", params: { level: "info", data } });
      await pause(50);
    }
    return said("logged");
  },
  async test_logging_tool(_given, { mcpReq }) {
    await mcpReq.log("info", "only for those who set a level");
    return said("logged");
  },
  async test_tool_with_progress(_given, { mcpReq }) {
    const { progressToken } = mcpReq._meta ?? {};
    for (const progress of progressToken === undefined ? [] : [0, 50, 100]) {
      await mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, total: 100 } });
      await pause(50);
    }
    return said("done");
  },
};

const FORMS = {
  test_elicitation_sep1034_defaults: object({
    name: { type: "string", default: "John Doe" },
    age: { type: "integer", default: 30 },
    score: { type: "number", default: 95.5 },
    status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
    verified: { type: "boolean", default: true },
  }),
  test_elicitation_sep1330_enums: object({
    untitledSingle: { type: "string", enum: ["option1", "option2", "option3"] },
    titledSingle: { type: "string", oneOf: [1, 2, 3].map((n) => ({ const: `value${n}`, title: `Option ${n}` })) },
    legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["Option 1", "Option 2", "Option 3"] },
    untitledMulti: { type: "array", items: { type: "string", enum: ["option1", "option2", "option3"] } },
    titledMulti: {
      type: "array", items: { anyOf: [1, 2, 3].map((n) => ({ const: `value${n}`, title: `Choice ${n}` })) },
    },
  }),
};

/** Tools of the session era that ask the client something before they answer. */
function asking(server) {
  const elicited = async ({ mcpReq }, message, requestedSchema) => {
    const { action, content } = await mcpReq.send({ method: "elicitation/create", params: { message, requestedSchema } });
    return said(`User response: action=${action}, content=${JSON.stringify(content ?? {})}`);
  };
  const tool = (name, inputSchema, call) =>
    server.registerTool(name, { description: name, inputSchema: fromJsonSchema(inputSchema) }, call);
  tool("test_elicitation", object({ message: { type: "string" } }, ["message"]), ({ message }, context) =>
    elicited(context, message, object({ response: { type: "string" } }, ["response"])));
  for (const [name, form] of Object.entries(FORMS)) {
    tool(name, object(), (_given, context) => elicited(context, "Please fill in", form));
  }
  tool("test_sampling", object({ prompt: { type: "string" } }, ["prompt"]), async ({ prompt }, { mcpReq }) => {
    const params = { messages: [{ role: "user", content: text(prompt) }], maxTokens: 100 };
    const { content } = await mcpReq.send({ method: "sampling/createMessage", params });
    return said(`LLM response: ${content.text}`);
  });
}

const name = inputRequired.elicit({ message: "Your name?", requestedSchema: object({ name: { type: "string" } }, ["name"]) });
const colour = inputRequired.elicit({ message: "Your colour?", requestedSchema: object({ color: { type: "string" } }, ["color"]) });
const confirm = inputRequired.elicit({ message: "Sure?", requestedSchema: object({ ok: { type: "boolean" } }, ["ok"]) });
const context = inputRequired.elicit({ message: "Which?", requestedSchema: object({ context: { type: "string" } }, ["context"]) });
const sampling = (words, maxTokens = 50) =>
  inputRequired.createMessage({ messages: [{ role: "user", content: text(words) }], maxTokens });
const roots = inputRequired.listRoots();
const ask = (inputRequests, requestState) => inputRequired({ inputRequests, ...(requestState && { requestState }) });
const minted = (content) => states.mint({ ...content, nonce: randomUUID() });

/** Tools of the modern era that want something of the client: it calls again, with the answers. */
const rounds = {
  test_missing_capability: ({ inputResponses }) =>
    inputResponses?.answer === undefined ? ask({ answer: sampling("pong?") }) : said("pong"),
  test_input_required_result_elicitation({ inputResponses }) {
    const given = acceptedContent(inputResponses, "user_name")?.name;
    return typeof given === "string" ? said(`Hello, ${given}!`) : ask({ user_name: name });
  },
  test_input_required_result_sampling({ inputResponses }) {
    const given = inputResponses?.capital_question;
    return given ? said(given.content.text) : ask({ capital_question: sampling("What is the capital of France?", 100) });
  },
  test_input_required_result_list_roots({ inputResponses }) {
    const given = inputResponses?.client_roots?.roots;
    return Array.isArray(given) ? said(given.map((root) => root.uri).join(", ")) : ask({ client_roots: roots });
  },
  async test_input_required_result_request_state({ inputResponses, requestState }) {
    const isDone = acceptedContent(inputResponses, "confirm") !== undefined && requestState() !== undefined;
    return isDone ? said("state-ok") : ask({ confirm }, await minted({}));
  },
  async test_input_required_result_tampered_state({ inputResponses, requestState }) {
    const isDone = acceptedContent(inputResponses, "confirm") !== undefined && requestState() !== undefined;
    return isDone ? said("integrity-ok") : ask({ confirm }, await minted({}));
  },
  async test_input_required_result_multiple_inputs({ inputResponses }) {
    const isDone = ["user_name", "greeting", "client_roots"].every((key) => inputResponses?.[key] !== undefined);
    if (isDone) return said("complete");
    return ask({ user_name: name, greeting: sampling("Greet"), client_roots: roots }, await minted({}));
  },
  async test_input_required_result_multi_round({ inputResponses, requestState }) {
    const { round = 0, name: earlier } = requestState() ?? {};
    if (round === 0) return ask({ step1: name }, await minted({ round: 1 }));
    const given = acceptedContent(inputResponses, "step1")?.name;
    if (round === 1) return ask({ step2: colour }, await minted({ round: 2, name: given }));
    return said(`${earlier} likes ${acceptedContent(inputResponses, "step2")?.color}`);
  },
  test_input_required_result_capabilities({ inputResponses, envelope }) {
    const able = envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {};
    const wanted = {
      ...(able.elicitation && { user_name: name }),
      ...(able.sampling && { greeting: sampling("Greet") }),
      ...(able.roots && { client_roots: roots }),
    };
    return inputResponses || Object.keys(wanted).length === 0 ? said("complete") : ask(wanted);
  },
};

/** A schema with the keywords that careless hands drop (JSON Schema 2020-12). */
const SCHEMA = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  type: "object",
  $defs: { address: { $anchor: "addressDef", type: "object", properties: { street: { type: "string" }, city: { type: "string" } } } },
  properties: {
    name: { type: "string" },
    address: { $ref: "#/$defs/address" },
    contactMethod: { type: "string", enum: ["phone", "email"] },
    phone: { type: "string" },
    email: { type: "string" },
  },
  allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
  if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
  then: { required: ["phone"] },
  else: { required: ["email"] },
  additionalProperties: false,
};

function resources(server) {
  const add = (uri, content, mimeType = "text/plain") =>
    server.registerResource(uri, uri, { mimeType }, async () => ({ contents: [{ uri, mimeType, ...content }] }));
  add("test://static-text", { text: "This is the content of the static text resource." });
  add("test://static-binary", { blob: IMAGE }, "image/png");
  add("test://watched-resource", { text: "watched" });
  const template = new ResourceTemplate("test://template/{id}/data", { list: undefined });
  server.registerResource("template", template, { mimeType: "application/json" }, async (uri, { id }) => ({
    contents: [{ uri: String(uri), mimeType: "application/json", text: JSON.stringify({ id, data: `Data for ID: ${id}` }) }],
  }));
  server.server.setRequestHandler("resources/subscribe", async () => ({}));
  server.server.setRequestHandler("resources/unsubscribe", async () => ({}));
}

function prompts(server) {
  const asked = (...parts) => ({ messages: parts.map((content) => ({ role: "user", content })) });
  const strings = (...names) => fromJsonSchema(object(Object.fromEntries(names.map((key) => [key, { type: "string" }])), names));
  const prompt = (title, argsSchema, render) =>
    server.registerPrompt(title, { description: title, ...(argsSchema && { argsSchema }) }, async (...given) => render(...given));
  prompt("test_simple_prompt", null, () => asked(text("This is a simple prompt for testing.")));
  prompt("test_prompt_with_image", null, () => asked(image, text("Look at this.")));
  prompt("test_prompt_with_arguments", strings("arg1", "arg2"), ({ arg1, arg2 }) =>
    asked(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)));
  prompt("test_prompt_with_embedded_resource", strings("resourceUri"), ({ resourceUri }) =>
    asked(resource(resourceUri, "Embedded resource content for testing."), text("Read this.")));
  prompt("test_input_required_result_prompt", null, ({ mcpReq }) => {
    const given = acceptedContent(mcpReq.inputResponses, "user_context")?.context;
    return typeof given === "string" ? asked(text(given)) : ask({ user_context: context });
  });
}

/** A new server; `changed` tells those who listen that a list changed, `polled` ends a call's stream. */
export function mcpServer({ changed, polled }) {
  const listed = { listChanged: true };
  const capabilities = {
    tools: listed, resources: { subscribe: true, ...listed }, prompts: listed, logging: {}, completions: {},
  };
  const options = { capabilities, requestState: { verify: states.verify } };
  const server = new McpServer({ name: "fixture", version: "1.0.0" }, options);
  const tool = (title, inputSchema, call) =>
    server.registerTool(title, { description: title, inputSchema: fromJsonSchema(inputSchema) }, async (...given) => call(...given));
  for (const [title, call] of Object.entries(simple)) tool(title, object(), call);
  for (const [title, call] of Object.entries(rounds)) tool(title, object(), (_given, { mcpReq }) => call(mcpReq));
  asking(server);
  tool("json_schema_2020_12_tool", SCHEMA, (given) => said(JSON.stringify(given)));
  const mirrored = { region: { type: "string", "x-mcp-header": "Region" }, level: { type: "integer" } };
  tool("test_x_mcp_header", object(mirrored), ({ region }) => said(`region=${region}`));
  tool("test_reconnection", object(), async (_given, { sessionId, mcpReq }) => {
    polled(sessionId, mcpReq.id);
    await pause(100);
    return said("reconnected");
  });
  for (const kind of ["tool", "prompt"]) {
    tool(`test_trigger_${kind}_change`, object(), () => {
      changed(kind);
      return said("told");
    });
  }
  resources(server);
  prompts(server);
  server.server.setRequestHandler("logging/setLevel", async () => ({}));
  server.server.setRequestHandler("completion/complete", async () => ({ completion: { values: [], total: 0, hasMore: false } }));
  return server;
}
