"use strict";
// The main table: groups that fold, rows that open, sorting, filters, copies, and a link that keeps the view.
{
  const table = document.getElementById("experiments"), said = document.getElementById("table-said");
  const search = document.getElementById("table-search"), kind = document.getElementById("table-kind");
  const ends = document.getElementById("table-ends");
  const rows = [...table.querySelectorAll("tr.row")];
  const groups = [...table.querySelectorAll("th.group")], heads = [...table.querySelectorAll("th[data-key]")];
  const details = new Map(rows.map(row => [row, row.nextElementSibling]));
  const open = new Set();
  let sorted = null;

  const fold = () => {
    for (const group of groups) {
      const key = group.dataset.group, unfolded = open.has(key);
      table.querySelectorAll(`.extra.g-${key}`).forEach(cell => { cell.classList.toggle("unfolded", unfolded); });
      group.colSpan = unfolded ? group.dataset.all : group.dataset.main;
      const button = group.querySelector("button");
      if (!button) continue;
      button.setAttribute("aria-expanded", unfolded);
      button.querySelector("span").textContent = unfolded ? "−" : "+";
    }
  };
  const sort = () => {
    heads.forEach(head => head.removeAttribute("aria-sort"));
    if (!sorted) return;
    const head = heads.find(one => one.dataset.key === sorted.key);
    if (!head) { sorted = null; return; }
    head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    const at = heads.indexOf(head);
    const value = row => at ? row.cells[at].dataset.value ?? "" : row.dataset.experiment;
    for (const body of table.tBodies) {
      const own = [...body.querySelectorAll("tr.row")].map(row => [value(row), row]);
      own.sort(([a], [b]) => {
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = at ? a - b : a.localeCompare(b, undefined, { numeric: true });
        return sorted.down ? -order : order;
      });
      body.append(...own.flatMap(([, row]) => [row, details.get(row)]));
    }
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = `${row.textContent} ${details.get(row).textContent}`.toLowerCase();
      const wanted = !kind.value || row.dataset.kind === kind.value || row.dataset.block === kind.value;
      row.hidden = !wanted || !words.every(word => text.includes(word));
      if (row.hidden) openRow(row, false);
      count += !row.hidden;
    }
    for (const body of table.tBodies) {
      const head = body.querySelector("tr.block");
      if (head) head.hidden = ![...body.querySelectorAll("tr.row")].some(row => !row.hidden);
    }
    said.textContent = count < rows.length ? `${count} of ${rows.length} experiments` : "";
    const names = new Set(rows.filter(row => !row.hidden).map(row => row.dataset.experiment));
    document.dispatchEvent(new CustomEvent("experiments-shown", { detail: names }));
  };
  const openRow = (row, wanted) => {
    const button = row.querySelector(".open-row");
    button.setAttribute("aria-expanded", wanted);
    details.get(row).hidden = !wanted;
  };

  // The view is in the address, so that a link keeps it.
  const view = () => {
    const values = new URLSearchParams();
    if (sorted) values.set("sort", (sorted.down ? "-" : "") + sorted.key);
    if (open.size) values.set("open", [...open].join(","));
    if (search.value.trim()) values.set("search", search.value.trim());
    if (kind.value) values.set("show", kind.value);
    if (ends.checked) values.set("intervals", "yes");
    return values.toString();
  };
  const keep = () => history.replaceState(null, "", `#table${view() ? `&${view()}` : ""}`);
  const restore = () => {
    if (!location.hash.startsWith("#table&")) return;
    const values = new URLSearchParams(location.hash.slice("#table&".length));
    const key = values.get("sort") ?? "";
    sorted = key ? { key: key.replace(/^-/, ""), down: key.startsWith("-") } : null;
    open.clear();
    (values.get("open") ?? "").split(",").filter(one => groups.some(group => group.dataset.group === one)).forEach(one => open.add(one));
    search.value = values.get("search") ?? "";
    kind.value = values.get("show") ?? "";
    if (kind.selectedIndex < 0) kind.value = "";
    ends.checked = values.get("intervals") === "yes";
    table.classList.toggle("with-ends", ends.checked);
    fold(); sort(); filter();
    document.getElementById("table").scrollIntoView();
  };

  // What is copied: the rows and columns in sight, in their order.
  const matrix = raw => {
    // A phone hides the head, so what is folded decides, not what is drawn.
    const folded = head => head.matches(".extra:not(.unfolded)");
    const shown = heads.map((head, index) => index).filter(index => !folded(heads[index]));
    const label = index => [heads[index].dataset.of, heads[index].dataset.label].filter(Boolean).join(": ");
    const head = shown.flatMap(index => raw && index && table.querySelector(`td:nth-child(${index + 1})[data-low]`)
      ? [label(index), `${label(index)} low`, `${label(index)} high`]
      : [label(index) + (index && !raw && heads[index].dataset.unit ? ` (${heads[index].dataset.unit})` : "")]);
    const cells = row => shown.flatMap(index => {
      if (!index) return [row.dataset.experiment];
      const { value = "", low = "", high = "", text = "", interval = "" } = row.cells[index].dataset;
      if (!raw) return [value === "" ? "" : `${text}${interval && ` ${interval}`}`];
      return table.querySelector(`td:nth-child(${index + 1})[data-low]`) ? [value, low, high] : [value];
    });
    return [head, ...[...table.querySelectorAll("tr.row")].filter(row => !row.hidden).map(cells)];
  };
  const formats = {
    markdown: () => {
      const [head, ...body] = matrix(false).map(row => row.map(cell => cell.replaceAll("|", "\\|")));
      const rule = head.map((_, index) => index ? "---:" : "---");
      return [head, rule, ...body].map(row => `| ${row.join(" | ")} |`).join("\n");
    },
    csv: () => matrix(true).map(row => row.map(cell => /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell).join(",")).join("\n"),
    latex: () => {
      const escaped = text => text.replace(/[\\&%$#_{}~^]/g, one => ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" })[one] ?? `\\${one}`)
        .replaceAll("−", "$-$");
      const [head, ...body] = matrix(false).map(row => `${row.map(escaped).join(" & ")} \\\\`);
      return `\\begin{tabular}{l${"r".repeat(matrix(false)[0].length - 1)}}\n\\hline\n${head}\n\\hline\n${body.join("\n")}\n\\hline\n\\end{tabular}`;
    },
    link: () => { keep(); return location.href; },
  };
  const copy = async text => {
    try { await navigator.clipboard.writeText(text); return; } catch { /* Not every browser allows it for a file. */ }
    const field = document.createElement("textarea");
    field.value = text;
    field.setAttribute("aria-label", "text to copy");
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    if (!copied) throw new Error("the browser does not allow it");
  };
  document.querySelectorAll("[data-copy]").forEach(button => button.addEventListener("click", async () => {
    try { await copy(formats[button.dataset.copy]()); said.textContent = `${button.textContent} copied`; }
    catch (error) { said.textContent = `Not copied: ${error.message}`; }
  }));

  groups.forEach(group => group.querySelector("button")?.addEventListener("click", () => {
    const key = group.dataset.group;
    if (!open.delete(key)) open.add(key);
    fold(); keep();
  }));
  heads.forEach(head => head.querySelector("button").addEventListener("click", () => {
    const { key } = head.dataset;
    // Figures begin with the largest; names with the first.
    const first = head !== heads[0];
    sorted = { key, down: sorted?.key === key ? !sorted.down : first };
    sort(); keep();
  }));
  rows.forEach(row => row.querySelector(".open-row").addEventListener("click", () => openRow(row, details.get(row).hidden)));
  search.addEventListener("input", () => { filter(); keep(); });
  kind.addEventListener("change", () => { filter(); keep(); });
  ends.addEventListener("change", () => { table.classList.toggle("with-ends", ends.checked); keep(); });
  addEventListener("hashchange", restore);
  restore();
}
