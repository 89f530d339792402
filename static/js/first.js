// Runs before the first paint: what styles depend on must not flicker.
document.documentElement.classList.add("scripted");
