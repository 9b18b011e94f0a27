// The map is a plain drawing of links. With scripts, pointing at a work or reaching it by keyboard shows its own lines only.
document.addEventListener("DOMContentLoaded", () => {
  const map = document.querySelector("svg.map");
  if (!map) return;
  const lines = [...map.querySelectorAll("path")], nodes = [...map.querySelectorAll("[data-n]")];
  const show = (name) => {
    const near = new Set([name]);
    lines.forEach((line) => {
      const own = !name || line.dataset.a === name || line.dataset.b === name;
      line.classList.toggle("away", !own);
      if (own) near.add(line.dataset.a).add(line.dataset.b);
    });
    nodes.forEach((node) => node.classList.toggle("away", Boolean(name) && !near.has(node.dataset.n)));
  };
  const point = (event) => show(event.target.closest("[data-n]")?.dataset.n);
  map.addEventListener("pointerover", point);
  map.addEventListener("focusin", point);
  map.addEventListener("pointerleave", () => show());
  map.addEventListener("focusout", () => show());
});
