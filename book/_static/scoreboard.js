// The scoreboard is a plain table; with scripts it can also be sorted and filtered.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("claims");
  if (!table || !table.tBodies[0].rows.length) return;
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.key;
      const numeric = rows.every((row) => key(row) === "" || !isNaN(key(row)));
      rows.sort((a, b) => {
        if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");  // no value: last
        return (up ? 1 : -1) * (numeric ? key(a) - key(b) : key(a).localeCompare(key(b)));
      });
      body.append(...rows);
    });
    head.replaceChildren(button);
  });

  const filters = document.createElement("form");
  filters.className = "filters";
  filters.innerHTML = `<label>Find <input type="search" placeholder="paper, chapter or claim"></label>
    <label>Verdict <select><option value="">any</option></select></label><output aria-live="polite"></output>`;
  const [word, status, shown] = filters.querySelectorAll("input, select, output");
  [...new Set(rows.map((row) => row.dataset.status))].forEach((name) => status.add(new Option(name)));
  const filter = () => {
    const wanted = word.value.trim().toLowerCase();
    rows.forEach((row) => {
      row.hidden = Boolean((status.value && row.dataset.status !== status.value) ||
        !row.textContent.toLowerCase().includes(wanted));
    });
    shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
  };
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  table.parentElement.before(filters);
  filter();
});
