"use strict";

/* Tables: numbers are sorted by value, names as people count. */
const order = (a, b) => {
  const [x, y] = [a, b].map(text => Number(text.replaceAll(",", "")));
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, {numeric: true}) : x - y;
};
const cell = (row, column) => row.cells[column].textContent.trim();
const sortBy = header => {
  const sign = header.ariaSort === "ascending" ? -1 : 1, column = header.cellIndex;
  const body = header.closest("table").tBodies[0], rows = [...body.rows];
  const [empty, full] = [row => !cell(row, column), row => cell(row, column)].map(kind => rows.filter(kind));
  body.append(...full.sort((a, b) => sign * order(cell(a, column), cell(b, column))), ...empty);
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.ariaSort = sign > 0 ? "ascending" : "descending";
};
for (const header of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.append(...header.childNodes);
  button.addEventListener("click", () => sortBy(header));
  header.append(button);
}

/* Figures: the library runs when the first one comes into view, because that takes longer than to open the page. */
const plots = [...document.querySelectorAll(".plot")];
const runLibrary = () => {
  const script = document.createElement("script");
  script.append(document.getElementById("library").textContent);
  document.body.append(script);
};
const draw = plot => {
  if (!window.Plotly) runLibrary();
  const {data, layout} = JSON.parse(plot.nextElementSibling.textContent);
  if (layout.height) plot.style.height = `${layout.height}px`;
  Plotly.newPlot(plot, data, layout, plotly);
};
const isDrawn = plot => plot.classList.contains("js-plotly-plot");
const inView = new IntersectionObserver(entries => {
  for (const {target} of entries.filter(entry => entry.isIntersecting)) {
    inView.unobserve(target);
    if (!isDrawn(target)) draw(target);
  }
}, {rootMargin: "50%"});
for (const plot of plots) inView.observe(plot);

/* Paper: everything is drawn, and as wide as the sheet. A table that is still wider is made smaller. */
const forPaper = () => {
  document.documentElement.classList.add("paper");
  for (const plot of plots) {
    if (!isDrawn(plot)) draw(plot);
    Plotly.relayout(plot, {autosize: true});
  }
  for (const table of document.querySelectorAll("table")) {
    table.style.zoom = Math.min(1, table.parentElement.clientWidth / table.scrollWidth);
  }
};
const forScreen = () => {
  document.documentElement.classList.remove("paper");
  for (const table of document.querySelectorAll("table")) table.style.zoom = "";
  for (const plot of plots) Plotly.relayout(plot, {autosize: true});
};
addEventListener("beforeprint", forPaper);
addEventListener("afterprint", forScreen);
