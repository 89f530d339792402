// Shows the chosen preset's numbers in the fields that are left empty.

for (const form of document.querySelectorAll("[data-job-form]")) {
  form.addEventListener("change", ({ target }) => {
    if (target.name !== "preset") return;
    for (const place of form.querySelectorAll("[data-preset-value]")) {
      const value = place.dataset[target.value];
      if (place.tagName === "OPTION") place.textContent = value;
      else place.placeholder = value;
    }
  });
}
