// What every page shares: the phone's menu, dialogs that ask once, focus on what went wrong, and what
// is said where a part of a page does not come.

import { LOST, isOurs, reason } from "./answers.js";
import { told } from "./up-to-date.js";

for (const button of document.querySelectorAll("[data-menu]")) {
  const top = button.closest("[data-top]");
  button.addEventListener("click", () => {
    const isOpen = top.classList.toggle("is-open");
    button.setAttribute("aria-expanded", String(isOpen));
  });
}

// Parts of a page are swapped: listen at the document, not at the elements.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  const closer = event.target.closest("[data-closes]");
  if (opener) {
    event.preventDefault();
    const dialog = document.getElementById(opener.dataset.opens);
    dialog.showModal();
    dialog.querySelector("[data-closes]")?.focus(); // the harmless one
  } else if (closer) {
    event.preventDefault();
    closer.closest("dialog").close();
  }
});

// A link that acts as a button also answers to the space bar.
document.addEventListener("keydown", (event) => {
  if (event.key === " " && event.target.matches("a[role=button]")) {
    event.preventDefault();
    event.target.click();
  }
});

// Somebody goes to another page: what watches a worker or a list does not load this one anew meanwhile,
// which would take the click back. A link may turn out to be a download, and then this page stays.
const LEAVING_MS = 20_000;
let leftAt = -Infinity;
const leaves = (event) => {
  if (!event.defaultPrevented) leftAt = performance.now();
};
const leavingMs = () => Math.max(0, leftAt + LEAVING_MS - performance.now());
document.addEventListener("submit", leaves);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const isPlain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey);
  if (link && isPlain && !link.getAttribute("href").startsWith("#")) leaves(event);
});
document.addEventListener("htmx:before:response", (event) => {
  if (leavingMs()) event.preventDefault();
});
// A part that does not come leaves what is there. Somebody who asked for it is told why, beside it; where
// a page looks again by itself, every few seconds, one line says that it is not up to date.
function tellPart(source, sentence) {
  if (source.getAttribute("hx-trigger")?.startsWith("every")) {
    if (!sentence || !leavingMs()) told(!sentence);
    return;
  }
  const place = source.nextElementSibling?.matches("[data-not-come]") ? source.nextElementSibling : null;
  if (!sentence) return place?.remove();
  if (leavingMs()) return;
  const said = place ?? document.createElement("p");
  said.className = "notice";
  said.role = "alert";
  said.dataset.notCome = "";
  said.textContent = sentence;
  if (!place) source.after(said);
}
document.addEventListener("htmx:before:response", (event) => {
  const { sourceElement, response } = event.detail.ctx;
  const header = (name) => response.headers.get(name);
  const isWell = isOurs(header) && response.status < 500;
  if (!isWell) event.preventDefault();
  tellPart(sourceElement, isWell ? "" : reason({ status: response.status, header, text: "" }));
});
document.addEventListener("htmx:error", (event) => {
  const { ctx } = event.detail;
  if (ctx && !ctx.response) tellPart(ctx.sourceElement, LOST);
});
// Told by whatever finds that this page is no longer what the server would draw.
document.addEventListener("page:stale", function again() {
  if (leavingMs()) setTimeout(again, leavingMs());
  else location.reload();
});

document.querySelector("[data-error-summary]")?.focus();

// A screen reader says what changes on a page, not what was there when it came.
for (const said of document.querySelectorAll("[data-said]")) {
  const words = said.textContent;
  setTimeout(() => {
    said.textContent = "";
    said.textContent = words;
  }, 300);
}
