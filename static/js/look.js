// Light, dark, or as the device is: chosen on the account page, kept in this browser alone.

const KEY = "etude-theme";

for (const choice of document.querySelectorAll("[data-theme-choice]")) {
  choice.hidden = false;
  let chosen = "";
  try {
    chosen = localStorage.getItem(KEY) ?? "";
  } catch {
    choice.hidden = true; // nothing is kept here
  }
  for (const radio of choice.querySelectorAll("input")) {
    radio.checked = radio.value === chosen;
    radio.addEventListener("change", () => {
      if (radio.value) {
        localStorage.setItem(KEY, radio.value);
        document.documentElement.dataset.theme = radio.value;
      } else {
        localStorage.removeItem(KEY);
        delete document.documentElement.dataset.theme;
      }
    });
  }
}
