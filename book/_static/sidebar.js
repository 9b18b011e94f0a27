// The theme's chevrons in the sidebar have no name; a screen reader would say "button" only.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-sidebar-primary li > details > summary").forEach((summary) => {
    summary.setAttribute("aria-label", `Chapters of ${summary.closest("li").querySelector("a").textContent.trim()}`);
  });
});
