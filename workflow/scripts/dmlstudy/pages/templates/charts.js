"use strict";
// Plotly stands in the page in compressed form. It is unpacked once the page is shown; charts in sight are drawn first.
{
  const pause = () => new Promise(done => setTimeout(done));
  const unpack = async () => {
    const script = document.createElement("script");
    script.textContent = await unpacked("plotly");
    document.head.append(script);
  };
  const drawAll = async () => {
    await unpack();
    const away = figure => Math.abs(figure.getBoundingClientRect().top);
    const figures = [...document.querySelectorAll("figure.chart")].sort((one, other) => away(one) - away(other));
    for (const figure of figures) {
      await pause();
      const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
      draw(figure.querySelector(".plot"), data, layout);
    }
    for (const run of afterCharts) { await pause(); run(); }
    document.documentElement.dataset.drawnAt = performance.now().toFixed();
    document.documentElement.dataset.drawn = "yes";
  };
  const begin = () => drawAll().catch(error => {
    console.error(error);
    document.querySelectorAll(".plot").forEach(plot => { plot.textContent = `This browser cannot draw the chart: ${error.message}`; });
  });
  if (document.querySelector(".plot")) addEventListener("load", () => setTimeout(begin));
}
