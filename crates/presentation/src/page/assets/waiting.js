// What is shown of a login that is under way: since when, where to go on, and how to take it back.

import { h } from "./dom.js";
import { providersPage } from "./logins.js";
import { copyable } from "./panels.js";
import { distance, timeOfDay } from "./time.js";

export function waiting(name, server, own, actions) {
  const { pending_since: since, pending_until: until } = server.login;
  const login = own.login ?? (since && { began_at: since, expires_at: until });
  if (!login) return null;
  const [named, page] = [login.authorization_url, providersPage(login)];
  return h("section", { class: "notice waiting", key: "waiting", "aria-label": `Login under way: ${name}` },
    h("p", null, h("strong", null, "Login under way"), " since ", timeOfDay(login.began_at), ". It ends by itself ", distance(login.expires_at), "."),
    login.device && code(login.device, actions),
    named && !page && h("p", { class: "error" }, "What the provider names to go on at is not a web address: ", h("code", null, named)),
    h("p", { class: "row" },
      page && h("a", { class: "button main", href: page, target: "_blank", rel: "noopener noreferrer" }, "Open the provider’s page"),
      login.flow_id && h("button", { type: "button", "aria-disabled": own.busy?.has("cancel-login") && "true", "aria-label": `Cancel login: ${name}`, onclick: () => actions.run(name, "cancel-login") }, "Cancel login")),
    page && !login.device && [
      h("p", { class: "words" }, "Or open this address in another browser on this machine:"),
      copyable(page, `The provider’s page for ${name}`, actions),
    ]);
}

function code({ verification_uri: place, user_code: words }, actions) {
  return [
    h("p", null, "Open ", h("strong", null, place), " on any device, and type in this code:"),
    h("p", { class: "row" }, h("code", { class: "user-code" }, words),
      h("button", { type: "button", "aria-label": "Copy the code", onclick: (event) => actions.copy(words, event) }, "Copy")),
  ];
}
