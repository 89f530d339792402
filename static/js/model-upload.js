// Sends a model's folder or GGUF file from this computer: its list of names first, then its files one
// after the other in pieces. It can be paused, goes on after a break, and after the page was left, when
// the same folder is chosen again.

import * as answers from "./answers.js";
import { meter, sender, sentence } from "./pieces.js";

// Minutes in all, for gigabytes on a thin line.
const RETRY_DELAYS = [0, 1000, 3000, 5000, 10000, 30000, 60000, 60000];

for (const form of document.querySelectorAll("[data-model-upload]")) {
  const part = (name) => form.querySelector(`[data-${name}]`);
  const drop = part("drop");
  const name = form.elements.upload_name;
  const inputs = [...form.querySelectorAll("input[type=file]")];
  let chosen = []; // [{path, file}]: what is to be sent, with its path below the folder
  let suggested = ""; // as its name
  let run = null; // the upload under way

  for (const input of inputs) {
    input.addEventListener("change", () => {
      for (const other of inputs) if (other !== input) other.value = "";
      const files = [...input.files];
      choose(files.map((file) => ({ path: below(file.webkitRelativePath || file.name), file })), top(files[0]));
    });
  }
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("is-over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    drop.addEventListener(kind, () => drop.classList.remove("is-over"));
  }
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    // They are gone once this turn is over.
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    for (const input of inputs) input.value = "";
    if (!entries.length) return;
    const folder = entries.length === 1 && entries[0].isDirectory ? entries[0] : null;
    const found = folder ? await within(folder, "") : await all(entries, "");
    choose(found, folder?.name ?? entries[0]?.name ?? "");
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  part("upload-pause").addEventListener("click", () => (run?.isPaused ? go() : pause("")));
  part("upload-cancel").addEventListener("click", async () => {
    const ended = run;
    run = null;
    await ended.sending?.abort();
    // Where that does not arrive, the page that follows still has it, with its own Cancel.
    await fetch(`/models/uploads/${ended.id}/cancel`, { method: "POST" }).catch(() => {});
    location.assign("/models");
  });
  addEventListener("online", () => run?.isPaused && run.isBroken && go());
  for (const link of document.querySelectorAll("[data-model-upload-again]")) {
    link.addEventListener("click", () => {
      name.value = link.dataset.modelUploadAgain;
      inputs[0].focus();
    });
  }

  function choose(found, suggestion) {
    chosen = found;
    say("");
    part("upload-chosen").textContent = found.length
      ? `${found.length === 1 ? "1 file" : `${found.length} files`} chosen`
      : "";
    const isOwn = name.value && name.value !== suggested; // typed, and not by us
    suggested = suggestion.replace(/\.gguf$/, "").replace(/[^\w.-]+/g, "-");
    if (!isOwn) name.value = suggested;
  }

  async function start() {
    say("");
    const files = chosen.map(({ path, file }) => ({
      path,
      size_bytes: file.size,
      modified: Math.round(file.lastModified),
    }));
    const answer = await ask("/models/uploads", { name: name.value, files });
    if (!answer) return;
    const places = new Map(chosen.map(({ path, file }) => [path, file]));
    const total = answer.files.reduce((sum, one) => sum + one.size_bytes, 0);
    run = {
      id: answer.id,
      left: answer.files.map((one) => ({ ...one, file: places.get(one.path) })),
      done: 0,
      total,
      tell: meter(part("upload-bar"), part("upload-text")),
    };
    part("upload-name").textContent = name.value;
    for (const each of document.querySelectorAll("[data-unfinished]")) {
      if (each.dataset.unfinished === name.value) each.hidden = true; // it goes on below
    }
    show(true);
    go();
  }

  // Sends the files that are left, from the first one on.
  function go() {
    const mine = run;
    mine.isPaused = mine.isBroken = false;
    part("upload-pause").textContent = "Pause";
    say("");
    const next = mine.left[0];
    if (!next) return finish(mine);
    mine.sending = sender(next.file, {
      uploadUrl: next.url, // it was made for this file; the browser need not remember it
      storeFingerprintForResuming: false,
      retryDelays: RETRY_DELAYS,
      onProgress: (sent) => mine.tell(mine.done + sent, mine.total),
      onSuccess() {
        if (run !== mine) return;
        mine.done += next.size_bytes;
        mine.left.shift();
        go();
      },
      onError(error) {
        if (run !== mine) return;
        const status = error.originalResponse?.getStatus() ?? 0;
        mine.isBroken = status === 0;
        pause(
          mine.isBroken
            ? "The connection was lost. Continue when it is back; nothing is sent twice."
            : status === 404
              ? "This upload no longer exists; load the page and start again."
              : sentence(error.originalResponse),
        );
      },
    });
    mine.sending.start();
  }

  function pause(why) {
    run.sending?.abort();
    run.isPaused = true;
    part("upload-pause").textContent = "Continue";
    part("upload-text").textContent = `Paused. ${part("upload-text").textContent}`;
    say(why);
  }

  async function finish(mine) {
    part("upload-text").textContent = "All files are here; registering the model…";
    const answer = await ask(`/models/uploads/${mine.id}/finish`, {});
    if (!answer) return pause(part("upload-error").textContent); // as `ask` has said it
    location.assign("/models");
  }

  // Returns what was answered; what went wrong is said beside the files.
  async function ask(address, body) {
    const options = {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "text/plain" },
      body: JSON.stringify(body),
    };
    const answer = await answers.ask(address, options, say, "The connection was lost. Try again.");
    return answer && JSON.parse(answer.text);
  }

  function show(isUploading) {
    part("upload-state").hidden = !isUploading;
    part("upload-go").hidden = isUploading;
    for (const field of form.querySelectorAll(".field")) field.hidden = isUploading;
    drop.hidden = isUploading;
  }

  function say(words) {
    part("upload-error").textContent = words;
    part("upload-error").hidden = !words;
  }
}

// A chosen folder's own name stands before each path.
function below(path) {
  const slash = path.indexOf("/");
  return slash < 0 ? path : path.slice(slash + 1);
}

function top(file) {
  return file ? (file.webkitRelativePath || file.name).split("/")[0] : "";
}

// All files of a dropped folder, and of the folders within it: which one is meant is told from that.
async function within(folder, path) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    // A hundred at a time.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return found;
    found.push(...(await all(entries, path)));
  }
}

async function all(entries, path) {
  const found = [];
  for (const entry of entries) {
    const here = path + entry.name;
    if (entry.isDirectory) {
      found.push(...(await within(entry, `${here}/`)));
    } else {
      found.push({ path: here, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
    }
  }
  return found;
}
