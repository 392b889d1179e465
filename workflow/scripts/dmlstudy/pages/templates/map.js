"use strict";
// The map of the embedding. Four traces: training and test images of seen and unseen classes.
afterCharts.push(() => document.querySelectorAll(".map").forEach(map => {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const plot = map.querySelector(".plot"), card = map.querySelector(".map-card");
  const model = map.querySelector("[name=map-model]"), colour = map.querySelector("[name=map-colour]");
  const search = map.querySelector("[name=map-search]"), found = map.querySelector(".found");
  const gl = document.createElement("canvas").getContext("webgl");
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  if (!gl) map.querySelector(".map-slow").hidden = false;
  const groups = [
    { title: "training images, seen classes", symbol: "circle", size: 5, query: false, seen: true },
    { title: "test images, seen classes", symbol: "diamond", size: 7, query: true, seen: true },
    { title: "training images, unseen classes", symbol: "square", size: 6, query: false, seen: false },
    { title: "test images, unseen classes", symbol: "star", size: 9, query: true, seen: false },
  ];
  // Consecutive numbers get distant hues, so that a few groups differ clearly.
  const hue = (index, light) => `hsl(${Math.round(index * 137.508) % 360}, 62%, ${light}%)`;
  const lists = { genus: [...new Set(data.genera)], class: data.names };
  const indexOf = { genus: data.genera.map(name => lists.genus.indexOf(name)), class: data.names.map((_, index) => index) };
  let points = [], traces = [], chosen = -1;

  const matches = () => {
    const text = search.value.trim().toLowerCase();
    if (!text) return null;
    const exact = data.names.findIndex(name => name.toLowerCase() === text);
    return new Set(data.names.map((_, index) => index).filter(index => exact >= 0
      ? index === exact
      : data.names[index].toLowerCase().includes(text) || data.genera[index].toLowerCase() === text));
  };
  const show = () => {
    const { ids, x, y, queries, answers } = data.models[model.value];
    const wanted = matches();
    points = ids.map((id, index) => ({
      id, x: x[index], y: y[index], name: data.names[data.classes[id]], class: data.classes[id],
      query: index >= ids.length - queries, seen: data.seen[data.classes[id]] === 1,
      answer: answers[index - (ids.length - queries)],
    }));
    traces = groups.map(group => points.filter(point => point.query === group.query && point.seen === group.seen));
    const numbers = indexOf[colour.value];
    const light = matchMedia("(prefers-color-scheme: dark)").matches ? 65 : 45;
    const drawn = groups.map((group, index) => ({
      type: gl ? "scattergl" : "scatter", mode: "markers", name: group.title, hoverinfo: "none",
      x: traces[index].map(point => point.x), y: traces[index].map(point => point.y),
      marker: {
        symbol: group.symbol,
        size: traces[index].map(point => wanted?.has(point.class) ? group.size + 4 : group.size),
        color: traces[index].map(point => !wanted || wanted.has(point.class) ? hue(numbers[point.class], light) : "rgba(128,128,128,.18)"),
        line: { width: group.seen ? 0 : 1, color: light === 65 ? "#fff" : "#000" },
      },
    }));
    // The point that was chosen with the keyboard.
    const point = points[chosen];
    drawn.push({
      type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false,
      x: point ? [point.x] : [], y: point ? [point.y] : [],
      marker: { symbol: "circle-open", size: 20, color: light === 65 ? "#fff" : "#000", line: { width: 3 } },
    });
    const axis = { showgrid: false, zeroline: false, showticklabels: false };
    draw(plot, drawn, {
      xaxis: axis, yaxis: { ...axis, scaleanchor: "x" }, dragmode: "pan", hovermode: "closest", uirevision: model.value,
      margin: { l: 10, r: 10, t: 10, b: 10 }, legend: { orientation: "h", y: -0.02, yanchor: "top" }, showlegend: true,
    });
    charts.set(plot, show);
    found.textContent = wanted ? `${wanted.size} class${wanted.size === 1 ? "" : "es"}` : "";
    map.dataset.drawn = points.length;
  };
  const describe = point => {
    const thumb = card.querySelector(".thumb"), [name, facts, answer] = card.querySelectorAll("p");
    thumb.hidden = false;
    const place = data.places[point.id];
    thumb.style.setProperty("--x", place % data.columns);
    thumb.style.setProperty("--y", Math.floor(place / data.columns));
    thumb.setAttribute("aria-label", `image of ${point.name}`);
    name.textContent = point.name;
    facts.textContent = `${point.query ? "test" : "training"} image, ${point.seen ? "seen" : "unseen"} class`;
    const right = point.answer === point.class;
    answer.textContent = point.query ? `${right ? "right" : "wrong"} answer: ${data.names[point.answer]}` : "";
    answer.className = right ? "right-text" : "wrong-text";
  };
  // The arrow keys step through the points; during a search only through points of the classes found.
  const step = (by, sameClass) => {
    const wanted = matches();
    const order = points.map((_, index) => index)
      .filter(index => !wanted || wanted.has(points[index].class))
      .sort((a, b) => points[a].class - points[b].class || a - b);
    if (!order.length) return;
    let at = order.indexOf(chosen);
    if (at < 0) at = by > 0 ? 0 : order.length - 1;
    else if (sameClass) at = (at + by + order.length) % order.length;
    else {
      const start = points[chosen].class;
      do at = (at + by + order.length) % order.length; while (points[order[at]].class === start && order[at] !== chosen);
    }
    chosen = order[at];
    describe(points[chosen]);
    Plotly.restyle(plot, { x: [[points[chosen].x]], y: [[points[chosen].y]] }, [groups.length]);
  };
  show();
  plot.on("plotly_hover", event => {
    const { curveNumber, pointNumber } = event.points[0];
    if (traces[curveNumber]?.[pointNumber]) describe(traces[curveNumber][pointNumber]);
  });
  plot.addEventListener("keydown", event => {
    const moves = { ArrowRight: [1, true], ArrowLeft: [-1, true], ArrowDown: [1, false], ArrowUp: [-1, false] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    step(...moves[event.key]);
  });
  for (const field of [model, colour]) field.addEventListener("change", () => { chosen = -1; show(); });
  search.addEventListener("input", () => { chosen = -1; show(); });
}));
