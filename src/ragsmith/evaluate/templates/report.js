"use strict";
{
  const table = document.getElementById("queries");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  // Question with its passage, expected, answer: a search for "1" shall not find every rank 1.
  const words = (row) => [0, 1, 2].map((column) => row.cells[column].textContent).join(" ");
  const texts = rows.map((row) => words(row).toLowerCase());
  const search = document.getElementById("search");
  const count = document.getElementById("count");

  const filter = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !wanted.every((word) => texts[index].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    count.textContent = wanted.length ? `${shown} of ${rows.length}` : `${rows.length} queries`;
  };
  search.addEventListener("input", filter);
  filter();

  const key = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const compare = (left, right, direction) => {
    // Empty cells stay last in both directions: a passage that was not found has no rank.
    if (left === "" || right === "") return (left === "") - (right === "");
    const difference = Number(left) - Number(right);
    return direction * (Number.isNaN(difference) ? left.localeCompare(right) : difference);
  };
  const headers = Array.from(table.tHead.rows[0].cells);
  headers.forEach((header, column) => {
    header.firstElementChild.addEventListener("click", () => {
      const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      body.append(...[...rows].sort((a, b) => compare(key(a, column), key(b, column), direction)));
    });
  });
}
