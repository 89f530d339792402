// Draws the reference of /v1 from its description; nothing is asked of any other server.

for (const place of document.querySelectorAll("[data-api-reference]")) {
  const drawn = document.createElement("div");
  place.append(drawn);
  window.SwaggerUIBundle({
    url: place.dataset.apiReference,
    domNode: drawn,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    persistAuthorization: false, // a token stays in no browser
    validatorUrl: null,
    onComplete: () => {
      // The page has its main part already, and a page has one.
      drawn.querySelector("main")?.setAttribute("role", "group");
      drawn.querySelector("#servers")?.setAttribute("aria-label", "Server");
      place.dataset.drawn = ""; // for who waits until all of it is there
    },
  });
}
