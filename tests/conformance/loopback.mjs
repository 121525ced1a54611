// Preloaded before a server of others: it listens on this machine alone, on a free port, and tells
// where in the words that our own servers use.

import { Server } from "node:net";

const listen = Server.prototype.listen;
Server.prototype.listen = function listenHere(_wanted, ...rest) {
  this.once("listening", () => console.log(`listening on ${this.address().port}`));
  return listen.call(this, 0, "127.0.0.1", ...rest.filter((argument) => typeof argument === "function"));
};
