// Sends the file in pieces that survive a break, with progress and a way out. Without this file
// the form sends it whole.

// Proxies let only so much through at once, a megabyte where nobody has said otherwise: pieces begin
// small, double while they are taken, and halve where one is refused or lost.
const LEAST_BYTES = 64 * 1024;
const FIRST_BYTES = 512 * 1024;
const MOST_BYTES = 8 * 1024 * 1024;

for (const form of document.querySelectorAll("[data-upload]")) {
  const part = (name) => form.querySelector(`[data-${name}]`);
  const input = form.querySelector("input[type=file]");
  const drop = part("drop");
  let upload = null;

  form.addEventListener("submit", (event) => {
    if (input.files.length) {
      event.preventDefault();
      start(input.files[0]);
    }
  });
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("is-over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    drop.addEventListener(kind, () => drop.classList.remove("is-over"));
  }
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) {
      input.files = event.dataTransfer.files;
      start(input.files[0]);
    }
  });
  part("upload-cancel").addEventListener("click", async () => {
    await upload?.abort(true);
    upload = null;
    show(false);
    input.focus();
  });

  function start(file) {
    const startedAt = performance.now();
    let startedWith = null; // what an earlier try had sent already says nothing about speed
    let saidAt = 0;
    let mostBytes = MOST_BYTES;
    say("");
    show(true);
    part("upload-name").textContent = file.name;
    part("upload-bar").value = 0;
    part("upload-text").textContent = "Starting…";
    upload = new tus.Upload(file, {
      endpoint: "/uploads",
      chunkSize: FIRST_BYTES,
      retryDelays: [0, 1000, 3000, 5000, 10000],
      removeFingerprintOnSuccess: true,
      metadata: { filename: file.name, name: form.elements.name.value },
      onProgress(sent, total) {
        startedWith ??= sent;
        part("upload-bar").value = (100 * sent) / total;
        const now = performance.now();
        if (now - saidAt < 1000 && sent < total) return; // a screen reader reads each change
        saidAt = now;
        const speed = (sent - startedWith) / ((now - startedAt) / 1000 || 1);
        part("upload-text").textContent =
          `${size(sent)} of ${size(total)}` +
          (speed > 0 && sent < total ? ` · ${size(speed)}/s · ${left((total - sent) / speed)} left` : "");
      },
      onChunkComplete() {
        upload.options.chunkSize = Math.min(2 * upload.options.chunkSize, mostBytes);
      },
      onAfterResponse(_request, response) {
        const target = response.getHeader("X-Etude-Location");
        if (target) location.assign(target);
      },
      onError(error) {
        say(sentence(error.originalResponse));
        show(false);
      },
      onShouldRetry(error) {
        const status = error.originalResponse?.getStatus() ?? 0;
        const halved = upload.options.chunkSize / 2;
        if (status === 413) {
          if (isOurs(error.originalResponse) || halved < LEAST_BYTES) return false;
          upload.options.chunkSize = mostBytes = halved;
          return true;
        }
        if (status === 0) upload.options.chunkSize = Math.max(halved, LEAST_BYTES);
        return status === 0 || status >= 500 || status === 409;
      },
    });
    upload.findPreviousUploads().then((earlier) => {
      if (earlier.length) upload.resumeFromPreviousUpload(earlier[0]);
      upload.start();
    });
  }

  function show(isUploading) {
    part("upload-state").hidden = !isUploading;
    part("upload-go").hidden = isUploading;
    drop.hidden = isUploading;
  }

  function say(sentence) {
    part("upload-error").textContent = sentence;
    part("upload-error").hidden = !sentence;
  }
}

// Etude gives each answer a number; what a proxy says in its place has none, and is often HTML.
function isOurs(response) {
  const type = response.getHeader("Content-Type") ?? "";
  return Boolean(response.getHeader("X-Request-Id")) && type.startsWith("text/plain");
}

function sentence(response) {
  if (!response || response.getStatus() === 0) {
    return "The connection was lost. Upload again: it continues where it stopped.";
  }
  const said = isOurs(response) ? response.getBody().trim() : "";
  return (
    said ||
    `The file did not arrive: a server between your browser and Etude answered in its place ` +
      `(${response.getStatus()}). Upload again in a few minutes: it continues where it stopped. If it ` +
      `happens again, tell your administrator this number.`
  );
}

function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  let step = 0;
  while (bytes >= 1000 && step < units.length - 1) {
    bytes /= 1000;
    step += 1;
  }
  return `${bytes.toFixed(step ? 1 : 0)} ${units[step]}`;
}

function left(seconds) {
  return seconds < 60 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}
