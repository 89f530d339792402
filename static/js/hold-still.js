// A part that refreshes itself holds still while somebody is in the middle of something in it.

document.addEventListener("htmx:before:request", (event) => {
  const part = event.target.closest("[data-hold-still]");
  if (part?.querySelector("dialog[open], details[open], :focus-visible")) event.preventDefault();
});
