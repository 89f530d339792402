// Keeps a list up to date: its stream says that something has changed, and the page asks for itself.
//
// A hidden page lets go of its stream (six connections a host over all tabs), and asks once when
// somebody looks again. While somebody is in the middle of something in the list, it holds still.

import * as answers from "./answers.js";
import { signedOut, told } from "./up-to-date.js";

const RETRY_SECONDS = 5;
const TYPING_MS = 250;
const LEAVING_MS = 2000;
const BUSY = "dialog[open], details[open], :focus-visible";

for (const list of document.querySelectorAll("[data-list-stream]")) follow(list);

// The form above a list: what is typed or chosen goes into the address, and the list follows.
function narrow(list, refresh) {
  const form = document.querySelector(`[data-list-form="${list.id}"]`);
  if (!form) return;
  let soon = null;

  function ask() {
    clearTimeout(soon);
    const asked = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value) asked.append(name, value);
    const said = asked.toString();
    history.replaceState(null, "", said ? `${form.action}?${said}` : form.action);
    refresh(true);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  form.addEventListener("change", ask);
  form.addEventListener("input", (event) => {
    if (event.target.type !== "search") return;
    clearTimeout(soon);
    soon = setTimeout(ask, TYPING_MS);
  });
}

function follow(list) {
  let source = null;
  let again = null;
  let isFirst = true;
  let isLeaving = false;
  let isAsking = false;
  let isStale = false;

  // A person's own wish does not wait until they have left the list.
  async function refresh(isWish = false) {
    if (isAsking || (!isWish && list.querySelector(BUSY))) {
      isStale = true;
      return;
    }
    const address = location.href;
    isAsking = true;
    isStale = false;
    try {
      const fresh = await answers.fresh(address);
      if (!fresh) {
        isStale = true; // the stream says when there is an answer again
        return;
      }
      const found = fresh.getElementById(list.id);
      // What stands around an empty list is not what stands around a full one.
      if (!found || "isEmpty" in found.dataset !== "isEmpty" in list.dataset) {
        document.dispatchEvent(new Event("page:stale"));
      } else if ((isWish || !list.querySelector(BUSY)) && found.innerHTML !== list.innerHTML) {
        list.replaceChildren(...found.childNodes);
      }
    } finally {
      isAsking = false;
      if (address !== location.href) refresh(true); // more was typed meanwhile
    }
  }

  function open() {
    if (source || document.hidden) return;
    source = new EventSource(list.dataset.listStream);
    source.addEventListener("changed", () => {
      // The page has just come; afterwards a new connection may have missed something.
      if (!isFirst) refresh();
      isFirst = false;
    });
    source.addEventListener("open", () => told(true));
    source.addEventListener("error", async () => {
      if (!source || isLeaving) return; // a page that is left breaks its streams off
      if (source.readyState !== EventSource.CLOSED) {
        told(false); // it tries again by itself
        return;
      }
      close();
      if (await answers.isSignedOut(location.href)) {
        signedOut();
        return;
      }
      told(false);
      again = setTimeout(open, RETRY_SECONDS * 1000);
    });
  }

  function close() {
    clearTimeout(again);
    if (source) source.close();
    source = null;
  }

  narrow(list, refresh);
  const letGo = () => isStale && setTimeout(refresh);
  list.addEventListener("focusout", letGo);
  list.addEventListener("toggle", letGo, true);
  list.addEventListener("close", letGo, true);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("beforeunload", () => {
    isLeaving = true;
    setTimeout(() => (isLeaving = false), LEAVING_MS); // it may be a download, and the page stays
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", () => {
    isLeaving = false;
    open();
  });
  open();
}
