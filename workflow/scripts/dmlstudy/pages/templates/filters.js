"use strict";
// One selection of experiments and models for all plots.
afterCharts.push(() => {
  const boxes = [...document.querySelectorAll("[name=plot-experiment]")];
  const models = [...document.querySelectorAll("[name=plot-model]")];
  const filter = () => {
    const experiments = new Set(boxes.filter(box => box.checked).map(box => box.value));
    const shown = new Set(models.filter(box => box.checked).map(box => box.value));
    document.querySelectorAll("#plots .plot").forEach(plot => {
      const visible = plot.data.map(({ meta }) => experiments.has(meta.experiment)
        && (!meta.model || shown.has(meta.model === "all_classes" ? "all" : "limited")));
      plot.data.forEach((trace, index) => { trace.visible = visible[index]; });
      redrawn(plot);
    });
  };
  const choose = wanted => { boxes.forEach(box => { box.checked = wanted(box.value); }); filter(); };
  document.getElementById("plot-search").addEventListener("input", event => {
    const text = event.target.value.trim().toLowerCase();
    choose(name => name.toLowerCase().includes(text));
  });
  document.getElementById("plot-all").addEventListener("click", () => choose(() => true));
  document.getElementById("plot-none").addEventListener("click", () => choose(() => false));
  [...boxes, ...models].forEach(box => box.addEventListener("change", filter));
});
