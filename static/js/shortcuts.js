// Keys for those who like them: "?" shows which. Whoever does not can switch them off there.

const OFF = "etude-no-shortcuts";
const SECOND_KEY_MS = 1500;
const overview = document.querySelector("[data-shortcuts]");
let since = -Infinity; // when "g" was pressed, in milliseconds of this page

if (overview) listen();

function listen() {
  const isOn = overview.querySelector("[data-shortcuts-on]");
  isOn.checked = !kept();
  isOn.addEventListener("change", () => keep(!isOn.checked));

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "?") {
      event.preventDefault();
      overview.showModal();
      return;
    }
    if (kept()) return;
    const isSecond = event.timeStamp - since < SECOND_KEY_MS;
    since = event.key === "g" ? event.timeStamp : -Infinity;
    const keys = isSecond ? `g ${event.key}` : event.key;
    const place = document.querySelector(`a[data-keys="${CSS.escape(keys)}"]`);
    if (place) {
      event.preventDefault();
      place.click();
    }
  });
}

function kept() {
  try {
    return localStorage.getItem(OFF) === "1";
  } catch {
    return false;
  }
}

function keep(isOff) {
  try {
    if (isOff) localStorage.setItem(OFF, "1");
    else localStorage.removeItem(OFF);
  } catch {
    // A browser that keeps nothing has them on each page anew.
  }
}
