// Judging by keyboard: single keys count only while a pair itself, or a button in it, has the focus.

const list = document.querySelector("[data-pairs]");
const KEYS = { a: "accepted", r: "refused" };

function go(from, step) {
  const pairs = [...list.querySelectorAll("[data-pair]")];
  const next = pairs[pairs.indexOf(from) + step];
  (next ?? document.querySelector("[data-next-page]"))?.focus();
}

list.addEventListener("keydown", (event) => {
  const pair = event.target.closest("[data-pair]");
  if (!pair || event.altKey || event.metaKey) return;
  const writes = event.target.matches("textarea, input");
  const key = event.key.toLowerCase();
  let button = null;
  if (event.ctrlKey) {
    if (writes && key === "enter") button = pair.querySelector("[value=accepted]");
  } else if (writes) {
    if (key === "escape") pair.focus();
  } else if (KEYS[key]) {
    button = pair.querySelector(`[name=verdict][value=${KEYS[key]}]`);
  } else if (key === "e") {
    event.preventDefault(); // the letter is not to be written
    pair.querySelector("textarea")?.focus();
  } else if (key === "j" || key === "k") {
    go(pair, key === "j" ? 1 : -1);
  }
  if (button) {
    event.preventDefault();
    button.click();
  }
});

// The pair that was judged is drawn anew without its fields: go on to the next one.
let judged = "";
list.addEventListener("submit", (event) => {
  judged = event.target.closest("[data-pair]").id;
});
document.addEventListener("htmx:after:swap", () => {
  const pair = judged && document.getElementById(judged);
  judged = "";
  if (!pair) return;
  const wrong = pair.querySelector("[aria-invalid=true]");
  if (wrong) wrong.focus();
  else if (pair.dataset.pair === "open") pair.focus();
  else go(pair, 1);
});
