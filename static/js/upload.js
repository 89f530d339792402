// Sends the file in pieces that survive a break, with progress and a way out. Without this file
// the form sends it whole.

const PIECE_BYTES = 8 * 1024 * 1024;

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
    say("");
    show(true);
    part("upload-name").textContent = file.name;
    part("upload-bar").value = 0;
    part("upload-text").textContent = "Starting…";
    upload = new tus.Upload(file, {
      endpoint: "/uploads",
      chunkSize: PIECE_BYTES,
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
      onAfterResponse(_request, response) {
        const target = response.getHeader("X-Etude-Location");
        if (target) location.assign(target);
      },
      onError(error) {
        const answer = error.originalResponse?.getBody()?.trim();
        say(answer || "The connection was lost. Upload again: it continues where it stopped.");
        show(false);
      },
      onShouldRetry(error) {
        const status = error.originalResponse?.getStatus() ?? 0;
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
