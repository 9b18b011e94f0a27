// The scoreboard is a plain table. With scripts it can also be sorted, filtered and searched, and the address holds the view.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.getElementById("claims");
  if (!table || !table.tBodies[0].rows.length) return;
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const key = (row, column) => row.cells[column].dataset.key ?? row.cells[column].textContent;
  const fields = { part: "Part", status: "Verdict", fidelity: "Fidelity", kind: "Kind", year: "Year" };
  let sorted = "";  // "3" or "-3": by the third column, upwards or downwards

  const sort = (by) => {
    const column = Math.abs(by) - 1;
    if (!heads[column]) return;
    sorted = String(by);
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", by > 0 ? "ascending" : "descending");
    const numeric = rows.every((row) => !isNaN(key(row, column)));
    rows.sort((a, b) => {
      const [x, y] = [key(a, column), key(b, column)];
      if (x === "" || y === "") return (x === "") - (y === "");  // no value: last
      return Math.sign(by) * (numeric ? x - y : x.localeCompare(y));
    });
    body.append(...rows);
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      sort(sorted === String(column + 1) ? -(column + 1) : column + 1);
      remember();
    });
    head.replaceChildren(button);
  });

  const form = document.createElement("form");
  form.className = "filters";
  form.innerHTML = `<label>Find <input type="search" name="q" placeholder="paper, chapter or claim"></label>` +
    Object.entries(fields).map(([name, label]) =>
      `<label>${label} <select name="${name}"><option value="">any</option></select></label>`).join("") +
    `<label><input type="checkbox" name="stale" value="yes"> stale only</label>
    <button type="reset">Show all</button> <button type="button" name="copy">Copy link to this view</button>
    <output aria-live="polite"></output>`;
  Object.keys(fields).forEach((name) => [...new Set(rows.map((row) => row.dataset[name]).filter(Boolean))].sort()
    .forEach((value) => form.elements[name].add(new Option(value))));
  const shown = form.querySelector("output");

  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const every = (wanted.q || "").toLowerCase().split(/\s+/);
    let count = 0;
    rows.forEach((row) => {
      row.hidden = ["stale", ...Object.keys(fields)].some((name) => wanted[name] && row.dataset[name] !== wanted[name]) ||
        !every.every((word) => words.get(row).includes(word));
      count += !row.hidden;
    });
    shown.textContent = `${count} of ${rows.length} rows`;
  };
  const remember = () => {
    const view = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    if (sorted) view.set("sort", sorted);
    history.replaceState(null, "", view.size ? `#${view}` : location.pathname + location.search);
  };
  const recall = () => {
    const view = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    form.reset();
    for (const [name, value] of view) {
      if (name === "stale") form.elements.stale.checked = value === "yes";
      else if (name === "q" || name in fields) form.elements[name].value = value;
    }
    sort(Number(view.get("sort")));
    filter();
  };
  form.addEventListener("input", () => { filter(); remember(); });
  form.addEventListener("reset", () => setTimeout(() => { filter(); remember(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.copy.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(location.href);
    shown.textContent = navigator.clipboard ? "copied" : "copy it from the address bar";
  });
  window.addEventListener("hashchange", recall);
  table.parentElement.before(form);
  recall();
});
