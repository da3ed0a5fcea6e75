// A click on a column's head, or Enter on it, sorts a table of pandas by it; once more reverses.
document.querySelectorAll("table.dataframe").forEach(table => {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  if (body.rows.length < 4 || [...table.querySelectorAll("[rowspan], [colspan]")].length) return;  // short, or with nested heads
  heads.forEach((head, column) => {
    const key = row => row.cells[column].textContent.trim(), number = text => parseFloat(text.replace(",", ""));
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(h => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const compare = (a, b) => isNaN(number(a)) || isNaN(number(b)) ? a.localeCompare(b) : number(a) - number(b);
      body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b))));
    };
    head.tabIndex = 0; head.title = "sort by this column"; head.style.cursor = "pointer";
    head.addEventListener("click", sort);
    head.addEventListener("keydown", e => { if (e.key === "Enter") sort(); });
  });
});
