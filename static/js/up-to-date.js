// One quiet line at the top of a page that keeps itself up to date, while it cannot: so that nobody
// takes what was so some minutes ago for what is so now.

const LOST = "Not up to date: the connection to Etude is lost. It comes back by itself.";
const SIGNED_OUT = "Not up to date: you are no longer signed in.";

let line = null;

/** Whatever asks again by itself tells here how it went. */
export function told(isWell) {
  if (isWell) {
    line?.remove();
    line = null;
  } else if (!line) {
    say(LOST);
  }
}

/** Nobody is signed in any more: nothing asks again until somebody is. */
export function signedOut() {
  line?.remove();
  const link = document.createElement("a");
  link.href = `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Sign in again";
  say(`${SIGNED_OUT} `);
  line.append(link);
}

function say(words) {
  line = document.createElement("p");
  line.className = "notice notice-warn";
  line.setAttribute("role", "status");
  line.dataset.notUpToDate = "";
  document.getElementById("main").prepend(line);
  line.append(words); // once it is there: a screen reader says what changes
}
