// Adds a button that copies to each long identifier. Pages work without it: one click on an
// identifier selects all of it.
"use strict";
if (navigator.clipboard) {
  const draw = (button, path) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("aria-hidden", "true");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", path);
    svg.append(line);
    button.replaceChildren(svg);
  };
  for (const id of document.querySelectorAll(".id.long")) {
    const text = id.querySelector("bdi").textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.title = "Copy";
    button.setAttribute("aria-label", "Copy " + text.slice(0, 12) + "…");
    draw(button, "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z");
    button.addEventListener("click", () => {
      navigator.clipboard.writeText(text).then(() => {
        button.classList.add("done");
        button.setAttribute("aria-label", "Copied");
        draw(button, "M2.5 8.5l3.5 3.5 7.5-8");
      });
    });
    id.append(button);
  }
}
