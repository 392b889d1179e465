"use strict";
// Sort a table by a column. Numbers sort as numbers, empty cells come last.
document.querySelectorAll("table.sortable").forEach(table => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const numbers = head.classList.contains("number");
      for (const body of table.tBodies) {
        const rows = [...body.rows];
        rows.map(row => [key(row), row]).sort(([a], [b]) => {
          if (a === "" || b === "") return (a === "") - (b === "");
          const order = numbers ? a - b : a.localeCompare(b, undefined, { numeric: true });
          return descending ? -order : order;
        }).forEach(([, row]) => body.append(row));
      }
    });
  });
});

// Search a table or a list of cards. A row must contain every word.
document.querySelectorAll("input[data-search]").forEach(field => {
  const target = document.getElementById(field.dataset.search);
  const found = field.parentElement.querySelector(".found");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...(target.tBodies
      ? target.querySelectorAll("tbody tr") : target.children)];
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      count += !row.hidden;
    }
    if (found) found.textContent = words.length ? `${count} of ${rows.length}` : "";
  });
});

// What stands in the page in compressed form, as text.
const unpacked = async id => {
  const packed = document.getElementById(id);
  const bytes = await (await fetch(`data:application/gzip;base64,${packed.textContent.trim()}`)).blob();
  packed.remove();
  return new Response(bytes.stream().pipeThrough(new DecompressionStream("gzip"))).text();
};

// Charts take their colours from the page. They are redrawn if the colours change, and for printing.
const charts = new Map();
// Pixels of a chart on paper: A4 in landscape, without its margins.
const PAPER = 1000;
const themed = layout => {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--plot-text").trim();
  const grid = style.getPropertyValue("--plot-grid").trim();
  const axis = (own, fallback) => ({ gridcolor: grid, linecolor: grid, zerolinecolor: text, automargin: true, ...fallback, ...own });
  return {
    ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, family: "system-ui, sans-serif" }, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
  };
};
const draw = (place, data, layout) => {
  charts.set(place, () => draw(place, data, layout));
  // Paper is narrower than most screens, and does not wait for a resize.
  const paper = matchMedia("print").matches ? { width: PAPER } : {};
  return Plotly.react(place, data, { ...themed(layout), ...paper }, { displaylogo: false, responsive: true });
};
const redrawn = place => charts.get(place)();
const redraw = () => charts.forEach(again => again());
// What needs Plotly runs once it was unpacked, after all charts; see charts.js.
const afterCharts = [];
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
matchMedia("print").addEventListener("change", redraw);

// The outline marks the section one is at.
{
  const links = [...document.querySelectorAll("nav a[href^='#']")];
  const places = links.map(link => document.getElementById(link.hash.slice(1)));
  let waiting = false;
  const mark = () => {
    waiting = false;
    const below = places.findIndex(place => place && place.getBoundingClientRect().top > innerHeight / 3);
    const at = (below < 0 ? places.length : below) - 1;
    links.forEach((link, index) => {
      if (index === at) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    });
  };
  addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(mark); } }, { passive: true });
  mark();
}

// Inside a Snakemake report each page is in its own folder, named by a digest.
const insideReport = /\/data\/raw\/[0-9a-f]+\/[^/]+$/.test(location.pathname);
if (insideReport) {
  document.querySelectorAll("a[data-in-report]").forEach(link => { link.href = link.dataset.inReport; });
}

// A click enlarges a photograph, with what is known of it.
document.addEventListener("click", event => {
    const button = event.target.closest("button.enlarge"), dialog = document.getElementById("enlarged");
    if (button) {
      const own = button.querySelector("img"), large = dialog.querySelector("img");
      large.src = own.src; large.alt = own.alt;
      dialog.querySelector("p").textContent = button.dataset.about;
      dialog.showModal();
    } else if (dialog && event.target === dialog) dialog.close();
});
