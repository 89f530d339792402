// Sends the file in pieces that survive a break, with progress and a way out. Without this file
// the form sends it whole.

import { meter, sender, sentence } from "./pieces.js";

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
    await upload?.abort(true).catch(() => {}); // what did not arrive there goes by itself
    upload = null;
    show(false);
    input.focus();
  });

  function start(file) {
    say("");
    show(true);
    part("upload-name").textContent = file.name;
    const tell = meter(part("upload-bar"), part("upload-text"));
    upload = sender(file, {
      endpoint: "/uploads",
      removeFingerprintOnSuccess: true,
      metadata: { filename: file.name, name: form.elements.name.value },
      onProgress: tell,
      onAfterResponse(_request, response) {
        const target = response.getHeader("X-Etude-Location");
        if (target) location.assign(target);
      },
      onError(error) {
        say(sentence(error.originalResponse));
        show(false);
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
