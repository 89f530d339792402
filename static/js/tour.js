// A look around, for whoever asks for it. It never opens by itself, and once it was seen or waved
// away in this browser, its offer on the start page is gone too.

const KEY = "etude-tour";
const tour = document.querySelector("[data-tour]");
const offer = document.querySelector("[data-tour-offer]");

if (tour) begin();

function begin() {
  const steps = [...tour.querySelectorAll("[data-tour-step]")];
  const back = tour.querySelector("[data-tour-back]");
  const next = tour.querySelector("[data-tour-next]");
  const place = tour.querySelector("[data-tour-place]");
  let at = 0;

  if (offer) offer.hidden = wasSeen();

  function show(number) {
    at = Math.max(0, Math.min(number, steps.length - 1));
    for (const [each, step] of steps.entries()) step.hidden = each !== at;
    back.hidden = at === 0;
    next.textContent = at === steps.length - 1 ? "Done" : "Next";
    place.textContent = `${at + 1} of ${steps.length}`;
    steps[at].focus(); // so that it is read aloud
  }

  function forward() {
    if (at < steps.length - 1) show(at + 1);
    else tour.close();
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-tour-open]")) {
      event.preventDefault();
      tour.showModal();
      show(0);
    } else if (event.target.closest("[data-tour-no]")) {
      seen();
    }
  });
  next.addEventListener("click", forward);
  back.addEventListener("click", () => show(at - 1));
  tour.querySelector("[data-tour-skip]").addEventListener("click", () => tour.close());
  tour.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight" && at < steps.length - 1) show(at + 1);
    else if (event.key === "ArrowLeft") show(at - 1);
  });
  tour.addEventListener("close", seen); // also by Esc
}

function seen() {
  if (offer) offer.hidden = true;
  try {
    localStorage.setItem(KEY, "seen");
  } catch {
    // A browser that keeps nothing is offered it anew.
  }
}

function wasSeen() {
  try {
    return localStorage.getItem(KEY) === "seen";
  } catch {
    return false;
  }
}
