// Logins under way, begun here or elsewhere: how they are gone on with, taken back, and how they ended.

import * as api from "./api.js";

/** `own`, `set`, `say` and `fail` read and change what the page knows of a server. */
export function logins({ own, set, say, fail }) {
  const latest = new Map(); // by server: the login under way, as the daemon told last
  const settling = new Set(); // servers whose login is being asked for

  /** Begins a login, and shows the provider's page in a new tab. */
  async function begin(name, way) {
    // A browser opens tabs for a click only, and not for what is answered later.
    const tab = way === "device" ? null : window.open("about:blank", "_blank");
    const login = await api.startLogin(name, way).catch((error) => {
      tab?.close();
      throw error;
    });
    set(name, { login, notice: null });
    const url = providersPage(login);
    if (login.device) say(`${name}: the code is ${login.device.user_code}.`);
    if (!url || login.device) tab?.close();
    else if (tab) {
      tab.opener = null;
      tab.location.replace(url);
    }
    settle(name); // it may have ended before it was known here
  }

  async function cancel(name) {
    const { flow_id: flow } = own(name).login;
    ended(name, flow, await api.cancelLogin(flow));
  }

  /** Takes in which login the daemon says is under way: another one than is shown, or none any more. */
  function told(name, { flow_id: flow }) {
    latest.set(name, flow);
    settle(name);
  }

  /** Asks until what is shown is what was told last: answers and events overtake each other. */
  async function settle(name) {
    if (settling.has(name)) return;
    settling.add(name);
    for (let before = null; ;) {
      const [flow, known] = [latest.get(name) ?? null, own(name).login?.flow_id ?? null];
      const apart = `${flow} ${known}`;
      if (flow === known || apart === before) break; // the same as before: what is told next says more
      before = apart;
      try {
        if (flow) set(name, { login: await api.pendingLogin(name) });
        else ended(name, known, await api.loginOutcome(known));
      } catch {
        // It has ended meanwhile, or the daemon is gone.
      }
    }
    settling.delete(name);
  }

  function ended(name, flow, { state, message, scopes_not_granted: missing }) {
    if (state === "pending" || own(name).login?.flow_id !== flow) return;
    set(name, { login: null });
    if (state === "succeeded") say(`Logged in to ${name}.${missing.length ? ` The provider did not grant: ${missing.join(" ")}.` : ""}`);
    else if (state === "cancelled") say(`The login to ${name} was cancelled.`);
    else fail(name, new Error(message));
  }

  return { begin, cancel, told };
}

/** Where a person goes on with `login`, if that is a web address: providers may name anything. */
export const providersPage = ({ authorization_url: url }) => (/^https?:\/\//i.test(url) ? url : null);
