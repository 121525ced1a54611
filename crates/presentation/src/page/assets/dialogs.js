// Questions before what cannot be undone, and the form for a new server.

import { h } from "./dom.js";

/** Title, consequence and button of what is asked before it is done. */
const QUESTIONS = {
  logout: (name) => [`Log out of ${name}?`, "The tokens are erased here, and revoked at the provider where it can. Clients get no answers from this server until somebody logs in again.", "Log out"],
  remove: (name) => [`Remove ${name}?`, "Its login is ended and its settings are forgotten. Clients that are set up for it get errors.", "Remove"],
};

export const isAskedFirst = (action) => action in QUESTIONS;

/** Label, hint and place in the request of each field; the first two are always shown. */
const FIELDS = [
  { name: "name", pointer: "/name", label: "Name", hint: "What you and your clients call it, for example linear", required: true },
  { name: "url", pointer: "/url", label: "URL", hint: "Where the MCP server or API is, for example https://mcp.linear.app/mcp", required: true, type: "url" },
  { name: "scopes", pointer: "/oauth/scopes", label: "Scopes", hint: "Separated by spaces; empty asks for what the server needs" },
  { name: "client_id", pointer: "/oauth/client_id", label: "Client ID", hint: "Of a client registered by hand; empty registers one" },
  { name: "client_secret_env", pointer: "/oauth/client_secret_env", label: "Variable with the client secret", hint: "The name of a variable in the daemon’s environment; the secret itself is never typed in here" },
  { name: "issuer", pointer: "/oauth/issuer", label: "Issuer", hint: "The authorization server; empty finds it" },
];

/** An element that is shown above all others, and gives the focus back when it closes. */
function modal(label, close, ...content) {
  return h("dialog", { "aria-labelledby": label, made: (dialog) => dialog.showModal(), onclose: close }, ...content);
}

const dismiss = (event) => event.target.closest("dialog").close();

export function confirmation({ action, name }, close, act) {
  const [title, consequence, button] = QUESTIONS[action](name);
  return modal("question", close,
    h("h2", { id: "question" }, title),
    h("p", null, consequence),
    h("div", { class: "answers" },
      h("button", { type: "button", onclick: dismiss }, "Cancel"),
      h("button", { type: "button", class: "danger main", onclick: (event) => { dismiss(event); act(); } }, button)));
}

export function addition({ refusal, sending }, close, send) {
  const field = (one) => inputFor(one, refusal?.pointer === one.pointer ? refusal.message : null);
  const elsewhere = refusal && !FIELDS.some(({ pointer }) => pointer === refusal.pointer);
  const more = FIELDS.slice(2);
  return modal("addition", close,
    h("h2", { id: "addition" }, "Add a server"),
    h("form", { novalidate: true, onsubmit: (event) => { event.preventDefault(); send(read(event.target)); } },
      FIELDS.slice(0, 2).map(field),
      h("details", { open: more.some(({ pointer }) => pointer === refusal?.pointer) || null },
        h("summary", null, "More settings"), more.map(field)),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "login", checked: true }), " Log in right away"),
      elsewhere && h("p", { class: "error", role: "alert" }, refusal.message),
      h("div", { class: "answers" },
        h("button", { type: "button", onclick: dismiss }, "Cancel"),
        h("button", { type: "submit", class: "main", "aria-disabled": sending && "true" }, sending ? "Adding …" : "Add"))));
}

function inputFor({ name, label, hint, required, type }, error) {
  const id = `add-${name}`;
  return h("div", { class: "field", key: name },
    h("label", { for: id }, label),
    h("input", {
      id, name, type: type ?? "text", required, autocomplete: "off", autocapitalize: "none", spellcheck: "false",
      "aria-invalid": error ? "true" : null, "aria-describedby": error ? `${id}-error ${id}-hint` : `${id}-hint`,
    }),
    error && h("p", { class: "error", id: `${id}-error`, role: "alert" }, error),
    h("p", { class: "hint", id: `${id}-hint` }, hint));
}

/** The server that was typed in, as the API takes it, and whether to log in. */
function read(form) {
  const typed = (name) => form.elements[name].value.trim();
  const oauth = { scopes: typed("scopes").split(/\s+/).filter(Boolean) };
  for (const name of ["client_id", "client_secret_env", "issuer"]) if (typed(name)) oauth[name] = typed(name);
  return { server: { name: typed("name"), url: typed("url"), oauth }, login: form.elements.login.checked };
}
