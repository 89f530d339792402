// Keeps a list up to date: its stream says that something has changed, and the page asks for itself.
//
// A hidden page lets go of its stream (six connections a host over all tabs), and asks once when
// somebody looks again. While somebody is in the middle of something in the list, it holds still.

const RETRY_SECONDS = 5;
const BUSY = "dialog[open], details[open], :focus-visible";

for (const list of document.querySelectorAll("[data-list-stream]")) follow(list);

function follow(list) {
  let source = null;
  let again = null;
  let isFirst = true;
  let isAsking = false;
  let isStale = false;

  async function refresh() {
    if (isAsking || list.querySelector(BUSY)) {
      isStale = true;
      return;
    }
    isAsking = true;
    isStale = false;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = fresh.getElementById(list.id);
      if (!found) location.reload(); // the list has become empty, or is no more
      else if (!list.querySelector(BUSY) && found.innerHTML !== list.innerHTML) {
        list.replaceChildren(...found.childNodes);
      }
    } catch {
      isStale = true; // no answer; the stream says when there is one again
    } finally {
      isAsking = false;
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
    source.addEventListener("error", () => {
      if (source && source.readyState === EventSource.CLOSED) {
        close();
        again = setTimeout(open, RETRY_SECONDS * 1000);
      }
    });
  }

  function close() {
    clearTimeout(again);
    if (source) source.close();
    source = null;
  }

  const letGo = () => isStale && setTimeout(refresh);
  list.addEventListener("focusout", letGo);
  list.addEventListener("toggle", letGo, true);
  list.addEventListener("close", letGo, true);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}
