// Keeps the words and figures of a job's page up to date; what is HTML is fetched from the server.

import * as answers from "./answers.js";

const LOG_LENGTH = 200;

for (const page of document.querySelectorAll("[data-job-stream]")) live(page);

const reload = () => document.dispatchEvent(new Event("page:stale"));

function live(page) {
  const kind = page.dataset.kind;
  let refreshing = null;

  // Parts that the server draws, e.g. what the model says now; a burst of news asks once.
  function refresh() {
    clearTimeout(refreshing);
    refreshing = setTimeout(async () => {
      const fresh = await answers.fresh(location.pathname);
      if (!fresh) return;
      for (const part of page.querySelectorAll("[data-refresh]")) {
        const found = fresh.getElementById(part.id);
        if (found && found.innerHTML !== part.innerHTML) part.replaceChildren(...found.childNodes);
      }
    }, 300);
  }

  page.addEventListener("job:job", ({ detail }) => {
    // Those of the steps above it are its own, too.
    for (const place of document.querySelectorAll("[data-figure]")) {
      const text = detail.texts[place.dataset.figure] ?? "";
      if (place.textContent !== text) place.textContent = text;
    }
    for (const part of page.querySelectorAll("[data-with]")) {
      part.hidden = !detail.texts[part.dataset.with];
    }
    for (const bar of page.querySelectorAll("[data-progress]")) {
      if (detail.total_steps || !detail.is_moving) {
        bar.max = detail.total_steps || 1;
        bar.value = detail.step;
      } else {
        bar.removeAttribute("value");
      }
      bar.textContent = detail.texts.step;
    }
    // Buttons, times and the adapter depend on it: the server knows which ones.
    if (detail.kind !== kind) reload();
  });

  page.addEventListener("job:metric", ({ detail }) => {
    if (!("loss" in detail.values)) return;
    for (const place of page.querySelectorAll("[data-figure=step]")) {
      place.textContent = detail.step.toLocaleString("en-US");
    }
    for (const bar of page.querySelectorAll("[data-progress][max]")) {
      if (bar.max >= detail.step && bar.hasAttribute("value")) bar.value = detail.step;
    }
  });

  page.addEventListener("job:note", ({ detail }) => {
    const log = page.querySelector("[data-log]");
    const line = document.createElement("li");
    line.className = `log-line is-${detail.level}`;
    const time = document.createElement("time");
    time.dateTime = detail.at;
    time.textContent = detail.time;
    line.append(time, ` ${detail.message}`);
    log.prepend(line);
    while (log.children.length > LOG_LENGTH) log.lastElementChild.remove();
    page.querySelector("[data-log-empty]")?.remove();
    if (["phase", "status"].includes(detail.kind)) refresh();
  });
  page.addEventListener("job:rewind", refresh);

  page.addEventListener("job:connection", ({ detail }) => {
    page.querySelector("[data-connection]").hidden = detail.isOpen;
  });
  page.addEventListener("job:end", () => {
    if (page.dataset.isFinal === undefined) reload();
  });
}
