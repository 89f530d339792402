// Follows a job: hands each event of its stream to the page, once and in order.
//
// A browser grants six connections to a host over all of its tabs, so a hidden page lets go of
// its stream and catches up from the last number it has seen when somebody looks again.

const KINDS = ["metric", "note", "rewind", "job"];
const RETRY_SECONDS = 5;

for (const page of document.querySelectorAll("[data-job-stream]")) follow(page);

function follow(page) {
  let seq = Number(page.dataset.seq);
  let source = null;
  let again = null;
  let isOver = false;

  function tell(kind, detail) {
    page.dispatchEvent(new CustomEvent(`job:${kind}`, { detail }));
  }

  function open() {
    if (source || isOver || document.hidden) return;
    source = new EventSource(`${page.dataset.jobStream}?after=${seq}`);
    source.addEventListener("open", () => tell("connection", { isOpen: true }));
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        const data = JSON.parse(event.data);
        // The server never sends a number twice on one connection; two connections may overlap.
        if (data.seq !== undefined) {
          if (data.seq <= seq) return;
          seq = data.seq;
          page.dataset.seq = String(seq);
        }
        tell(kind, data);
        if (data.note) tell("note", data.note);
      });
    }
    source.addEventListener("end", (event) => {
      isOver = true;
      close();
      tell("end", JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      tell("connection", { isOpen: false });
      // The browser reconnects by itself after a broken line, but not after an answer that is
      // no stream: the server may be starting, or nobody is signed in any more.
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

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  // A page kept by the browser for its "back" button must not hold a connection either.
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  if (page.dataset.isFinal === undefined) open();
}
