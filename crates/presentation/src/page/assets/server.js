// What follows from a server as the API tells of it.

/** What a grant is called: its server, and its account where that has a name. */
export const nameOf = ({ name, account }) => (account === "default" ? name : `${name}@${account}`);

export const levelOf = ({ health }) => (health.admin_state === "disabled" ? "disabled" : health.level);

/** Whether no person logs in. */
export const isUnattended = ({ grant }) => grant !== "authorization_code" && grant !== "device_code";

/** Servers of the configuration file are switched there; accounts, with their server. */
export const canSwitch = ({ account, source }) => account === "default" && source === "store";
