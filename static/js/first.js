// Runs before the first paint: what styles depend on must not flicker.
document.documentElement.classList.add("scripted");
// Light or dark, where a person chose it for this browser (look.js); else as the device is.
try {
  const theme = localStorage.getItem("etude-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing goes by the device.
}
