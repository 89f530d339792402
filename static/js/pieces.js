// Pieces of a file that survive a break (tus), for whatever is uploaded here.

import { isOurs, reason } from "./answers.js";

// Proxies let only so much through at once, a megabyte where nobody has said otherwise: pieces begin
// small, double while they are taken, and halve where one is refused or lost.
const LEAST_BYTES = 64 * 1024;
const FIRST_BYTES = 512 * 1024;
const MOST_BYTES = 8 * 1024 * 1024;

/** Make an upload of one file; `options` are those of tus-js-client on top of ours. */
export function sender(file, options) {
  let mostBytes = MOST_BYTES;
  const upload = new tus.Upload(file, {
    chunkSize: FIRST_BYTES,
    retryDelays: [0, 1000, 3000, 5000, 10000],
    onChunkComplete() {
      upload.options.chunkSize = Math.min(2 * upload.options.chunkSize, mostBytes);
    },
    onShouldRetry(error) {
      const status = error.originalResponse?.getStatus() ?? 0;
      const halved = upload.options.chunkSize / 2;
      if (status === 413) {
        if (isOurs(headerOf(error.originalResponse)) || halved < LEAST_BYTES) return false;
        upload.options.chunkSize = mostBytes = halved;
        return true;
      }
      if (status === 0) upload.options.chunkSize = Math.max(halved, LEAST_BYTES);
      return status === 0 || status >= 500 || status === 409;
    },
    ...options,
  });
  return upload;
}

/** Return what says how far an upload is, in a progress bar and in words beside it. */
export function meter(bar, line) {
  const startedAt = performance.now();
  let startedWith = null; // what an earlier try had sent already says nothing about speed
  let saidAt = 0;
  bar.value = 0;
  line.textContent = "Starting…";
  return (sent, total) => {
    startedWith ??= sent;
    bar.value = (100 * sent) / total;
    const now = performance.now();
    if (now - saidAt < 1000 && sent < total) return; // a screen reader reads each change
    saidAt = now;
    const speed = (sent - startedWith) / ((now - startedAt) / 1000 || 1);
    line.textContent =
      `${size(sent)} of ${size(total)}` +
      (speed > 0 && sent < total ? ` · ${size(speed)}/s · ${left((total - sent) / speed)} left` : "");
  };
}

export function sentence(response) {
  if (!response || response.getStatus() === 0) {
    return "The connection was lost. Upload again: it continues where it stopped.";
  }
  const header = headerOf(response);
  return reason(
    { status: response.getStatus(), header, text: response.getBody() },
    {
      failed: "The file did not arrive",
      again: "Upload again in a few minutes: it continues where it stopped.",
    },
  );
}

const headerOf = (response) => (name) => response.getHeader(name);

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
