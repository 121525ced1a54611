// What shows the API that a request comes from this page. Browsers send its cookie to every port of this
// machine, and what is stored here to none: a link brings it, once.

const NAME = "everfresh-page";

const [, brought] = /^#opened=([\w-]+)$/.exec(location.hash) ?? [];

if (brought) {
  history.replaceState(null, "", "/");
  keep(brought);
}

function keep(proof) {
  try {
    localStorage.setItem(NAME, proof);
  } catch {
    // Nothing may be stored here: the page is open until it is loaded again.
  }
}

function kept() {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null;
  }
}

/** Headers for each request. Another tab may have been opened by a newer link, and has brought a newer proof. */
export const proof = () => ({ "X-Everfresh-Page": kept() ?? brought ?? "" });
