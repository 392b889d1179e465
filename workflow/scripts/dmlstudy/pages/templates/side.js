"use strict";
// Any two models, side by side. The page holds the answers of all models in compressed form.
const besides = new Map();
const besideLoaded = data => { besides.set(data.experiment, data); };
{
  const get = id => document.getElementById(`side-${id}`);
  const make = (tag, text = "", className = "") => {
    const one = document.createElement(tag);
    one.textContent = text;
    if (className) one.className = className;
    return one;
  };
  const STEP = 12;
  const chosen = { one: get("one"), "one-model": get("one-model"), other: get("other"), "other-model": get("other-model") };
  const usual = Object.fromEntries(Object.entries(chosen).map(([key, field]) => [key, field.value]));
  const title = which => `${chosen[which].value}, ${chosen[`${which}-model`].selectedOptions[0].textContent}`;
  const plotlyReady = new Promise(done => { afterCharts.push(done); });
  let data = null, outside = false;

  // Integers that stand in the page as base64.
  const bytes = text => Uint8Array.from(atob(text), one => one.charCodeAt(0));
  const integers = text => new (data.wide ? Uint32Array : Uint16Array)(bytes(text).buffer);
  const unpackData = async () => {
    data = JSON.parse(await unpacked("side-data"));
    data.queries = integers(data.queries);
    data.nearest = data.nearest.map(integers);
    data.distances = data.distances.map(bytes);
    data.examples = new Map(data.sprite.examples);
    data.inside = new Map(data.sprite.images.map((image, place) => [image, place]));
    const style = make("style", `.thumb.inside { background-image: url(${data.sprite.uri}); }`);
    document.head.append(style);
  };
  // All thumbnails, if the page lies in its results folder.
  const findOutside = () => new Promise(done => {
    if (insideReport) { get("missing").hidden = false; done(); return; }
    const image = new Image();
    image.onload = () => {
      outside = true;
      document.head.append(make("style", `.thumb.outside { background-image: url("${image.src}"); }`));
      done();
    };
    image.onerror = () => { get("missing").hidden = false; done(); };
    image.src = data.beside.uri;
  });

  const thumb = (image, label) => {
    const place = outside ? image : data.inside.get(image);
    if (place === undefined) return null;
    const columns = outside ? data.beside.columns : data.sprite.columns;
    const one = make("span", "", `thumb ${outside ? "outside" : "inside"}`);
    one.setAttribute("role", "img");
    one.setAttribute("aria-label", label);
    for (const [key, value] of [["--columns", columns], ["--x", place % columns], ["--y", Math.floor(place / columns)]]) one.style.setProperty(key, value);
    return one;
  };
  const photograph = (place, label, part, mark = "", distance = null) => {
    const figure = make("figure", "", `side-photo ${mark}`), name = data.names[data.classes[place]];
    const caption = make("figcaption");
    let image = thumb(data.images[place], `${label}: ${name}`);
    // An example of the class stands for a nearest image without a photograph.
    const example = image ? undefined : mark && data.examples.get(data.classes[place]);
    if (example !== undefined) image = thumb(example, `${label}: ${name}, an example of the class`);
    figure.append(image ?? make("span", "no photograph", "no-photo muted"));
    caption.append(make("span", label, "muted"), make("b", `${mark === "right" ? "✓ " : mark ? "✗ " : ""}${name}`));
    if (example !== undefined) caption.append(make("span", "(another image of the class)", "muted"));
    if (distance !== null) caption.append(make("span", `distance ${(distance / 100).toFixed(2)}`));
    caption.append(make("span", `${part} · ${data.paths[place]}`, "muted file"));
    figure.append(caption);
    return figure;
  };
  const model = which => data.models.findIndex(([name, kind]) => name === chosen[which].value && kind === chosen[`${which}-model`].value);
  const isRight = (number, query) => data.classes[data.nearest[number][query]] === data.classes[data.queries[query]];

  const card = (query, numbers) => {
    const item = make("li", "", "card"), row = make("div", "", "side-trio");
    item.dataset.image = data.images[data.queries[query]];
    row.append(photograph(data.queries[query], "query", data.parts.query));
    ["one", "other"].forEach((which, index) => {
      const number = numbers[index];
      row.append(photograph(data.nearest[number][query], `${index ? "second" : "first"}: nearest`, data.parts.nearest,
        isRight(number, query) ? "right" : "wrong", data.distances[number][query]));
    });
    item.append(row);
    return item;
  };
  const list = (heading, queries, numbers, which) => {
    const part = make("div"), cards = make("ul", "", "cards grid");
    part.dataset.onlyRight = which;
    part.append(make("h3", heading));
    if (!queries.length) { part.append(make("p", "None.")); return part; }
    let count = 0;
    const button = make("button");
    button.type = "button";
    const more = () => {
      cards.append(...queries.slice(count, count + STEP).map(query => card(query, numbers)));
      count = Math.min(count + STEP, queries.length);
      button.hidden = count === queries.length;
      button.textContent = `${Math.min(STEP, queries.length - count)} more of ${queries.length - count}`;
    };
    button.addEventListener("click", () => {
      const before = count;
      more();
      // The button may be gone: the focus goes to the first card that came.
      cards.children[before].tabIndex = -1;
      cards.children[before].focus();
    });
    more();
    part.append(cards, button);
    return part;
  };
  const points = tenths => (tenths / 10).toFixed(1).replace("-", "−");
  const difference = ([one, other]) => {
    const count = data.models.length, [i, j] = one < other ? [one, other] : [other, one];
    const found = data.pairs[i * (2 * count - i - 1) / 2 + j - i - 1];
    if (one < other) return found;
    const [value, low, high, real] = found.map(each => each === null ? null : -each);
    return [value, high, low, real];
  };

  const show = () => {
    const numbers = [model("one"), model("other")];
    const lists = get("lists"), said = get("said"), counts = get("counts");
    lists.replaceChildren(); counts.textContent = ""; said.className = "";
    get("more").open = false;
    get("more").hidden = numbers[0] === numbers[1];
    if (numbers[0] === numbers[1]) { said.textContent = "These are the same model: choose two that differ."; return; }
    const [value, low, high, real] = difference(numbers);
    said.replaceChildren(make("b", title("one")), " minus ", make("b", title("other")), ": ",
      make("b", `${value > 0 ? "+" : ""}${points(value)} points [${points(low)}, ${points(high)}]`, real > 0 ? "right-text" : real < 0 ? "wrong-text" : ""),
      real ? "." : ". The interval contains 0: no difference is shown.");
    const tally = [0, 0, 0, 0], only = [[], []];
    for (let query = 0; query < data.queries.length; query++) {
      const [one, other] = numbers.map(number => isRight(number, query));
      tally[one ? (other ? 0 : 1) : (other ? 2 : 3)] += 1;
      if (one !== other) only[one ? 0 : 1].push(query);
    }
    counts.textContent = `Both right: ${tally[0]} · only the first: ${tally[1]} · only the second: ${tally[2]} · neither: ${tally[3]}.`;
    only.forEach((queries, index) => {
      const wrong = data.distances[numbers[1 - index]];
      queries.sort((a, b) => wrong[a] - wrong[b] || a - b);
      // Without the thumbnails of the results folder, those with a photograph come first.
      if (!outside) queries.sort((a, b) => data.inside.has(data.images[data.queries[b]]) - data.inside.has(data.images[data.queries[a]]));
      lists.append(list(`Only the ${index ? "second" : "first"} is right: ${queries.length}`, queries, numbers, index ? "other" : "one"));
    });
    document.getElementById("side").dataset.shown = numbers.join(" ");
  };

  // The choice is in the address, so that a link keeps it.
  const keep = () => {
    const values = new URLSearchParams(Object.entries(chosen).map(([key, field]) => [key, field.value]));
    history.replaceState(null, "", `#side&${values}`);
  };
  const restore = () => {
    const note = get("note");
    note.hidden = true;
    if (!location.hash.startsWith("#side&")) return;
    const values = new URLSearchParams(location.hash.slice("#side&".length)), unknown = [];
    for (const [key, field] of Object.entries(chosen)) {
      const wanted = values.get(key);
      if (wanted !== null) field.value = wanted;
      if (field.selectedIndex < 0) { unknown.push(wanted); field.value = usual[key]; }
    }
    note.hidden = !unknown.length;
    note.textContent = `The link names what this page does not have: ${unknown.join(", ")}.`;
    document.getElementById("side").scrollIntoView();
  };

  // Heat maps and maps stand in a script beside the page of each experiment.
  const load = async which => {
    const name = chosen[which].value;
    if (besides.has(name)) return besides.get(name);
    // Inside a Snakemake report pages lie elsewhere.
    if (insideReport) return null;
    return new Promise(done => {
      const script = document.createElement("script");
      script.onload = () => done(besides.get(name) ?? null);
      script.onerror = () => done(null);
      script.src = chosen[which].selectedOptions[0].dataset.beside;
      document.head.append(script);
    });
  };
  const picture = (image, label, text, mark = "") => {
    const figure = make("figure", "", mark), one = document.createElement("img");
    Object.assign(one, { src: image.uri, width: image.width, height: image.height, alt: label });
    figure.append(one, make("figcaption", text));
    return figure;
  };
  const heatmaps = found => {
    const kinds = ["one", "other"].map(which => chosen[`${which}-model`].value);
    const second = new Map(found[1].heatmaps.map(one => [one.image, one]));
    const both = found[0].heatmaps.filter(one => second.has(one.image));
    get("heatmaps").replaceChildren(make("h3", `Heat maps of the same queries: ${both.length}`));
    if (!both.length) {
      get("heatmaps").append(make("p", "No query has heat maps of both. The page of each experiment has its own."));
      return;
    }
    const cards = make("ul", "", "cards grid");
    for (const one of both) {
      const name = found[0].names[found[0].classes[one.image]], item = make("li", "", "card"), row = make("div", "", "photos");
      item.append(make("b", name));
      row.tabIndex = 0;
      row.setAttribute("role", "group");
      row.setAttribute("aria-label", `heat maps of ${name}`);
      row.append(picture(one.query, `query: ${name}`, "query", "asked"));
      [one, second.get(one.image)].forEach((own, index) => {
        for (const each of own.maps.filter(map => map.model === kinds[index])) {
          const what = each.true_class ? "✓ for the true class" : `✗ for ${each.name}, which won`;
          row.append(picture(each.image, `heat map of the ${index ? "second" : "first"} for ${each.name}`, `${index ? "second" : "first"}: ${what}`, each.true_class ? "right" : "wrong"));
        }
      });
      item.append(row);
      cards.append(item);
    }
    get("heatmaps").append(cards);
  };
  const escaped = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const drawMap = (found, which, label) => {
    const map = found.maps[chosen[`${which}-model`].value], first = map.ids.length - map.queries;
    const figure = make("figure"), plot = make("div", "", "side-map");
    figure.append(make("figcaption", `${label}: ${title(which)}`), plot);
    get("maps").append(figure);
    const gl = document.createElement("canvas").getContext("webgl");
    gl?.getExtension("WEBGL_lose_context")?.loseContext();
    const groups = { "training images": [], "test images, right": [], "test images, wrong": [] };
    const names = Object.keys(groups);
    map.ids.forEach((id, at) => {
      const right = at < first ? 0 : map.answers[at - first] === found.classes[id] ? 1 : 2;
      groups[names[right]].push(at);
    });
    const looks = [["#888888", "circle", 4], ["#1f77b4", "circle", 7], ["#d95f02", "x", 8]];
    draw(plot, names.map((name, index) => ({
      type: gl ? "scattergl" : "scatter", mode: "markers", name, hoverinfo: "text",
      x: groups[name].map(at => map.x[at]), y: groups[name].map(at => map.y[at]),
      text: groups[name].map(at => escaped(found.names[found.classes[map.ids[at]]])),
      marker: { color: looks[index][0], symbol: looks[index][1], size: looks[index][2], opacity: index ? 1 : 0.45 },
    })), {
      height: 420, margin: { l: 10, r: 10, t: 10, b: 10 }, legend: { orientation: "h", y: -0.02, yanchor: "top" }, hovermode: "closest",
      xaxis: { visible: false }, yaxis: { visible: false, scaleanchor: "x" },
    });
    plot.setAttribute("role", "figure");
    plot.setAttribute("aria-label", `Map of the embedding of ${title(which)}: training images, and test images that are right or wrong.`);
  };
  const more = async () => {
    const wanted = Object.values(chosen).map(field => field.value).join("\n"), status = get("more-said");
    status.textContent = "Loading…";
    charts.forEach((_, place) => { if (place.classList.contains("side-map")) charts.delete(place); });
    get("heatmaps").replaceChildren(); get("maps").replaceChildren();
    const found = [await load("one"), await load("other")];
    // The choice may have changed in the meantime.
    if (wanted !== Object.values(chosen).map(field => field.value).join("\n") || !get("more").open) return;
    const missing = ["one", "other"].filter((_, index) => !found[index]);
    if (missing.length) {
      status.replaceChildren("Not in the results folder beside this page: ", ...missing.flatMap((which, index) => {
        const link = make("a", chosen[which].value);
        link.href = chosen[which].selectedOptions[0].dataset[insideReport ? "reportPage" : "page"];
        return index ? [", ", link] : [link];
      }), ". They are made with the page of each experiment.");
      return;
    }
    status.textContent = "Maps: UMAP of each model, fitted on its training images; only neighbourhoods are meaningful.";
    heatmaps(found);
    await plotlyReady;
    if (!get("more").open) return;
    found.forEach((one, index) => drawMap(one, index ? "other" : "one", index ? "Second" : "First"));
    get("maps").dataset.drawn = "yes";
  };

  const again = () => { keep(); show(); };
  Object.values(chosen).forEach(field => field.addEventListener("change", again));
  get("swap").addEventListener("click", () => {
    for (const key of ["", "-model"]) {
      const [one, other] = [chosen[`one${key}`], chosen[`other${key}`]];
      [one.value, other.value] = [other.value, one.value];
    }
    again();
  });
  get("more").addEventListener("toggle", () => { if (get("more").open) more(); });
  addEventListener("hashchange", () => { restore(); if (data) show(); });
  restore();
  addEventListener("load", () => setTimeout(async () => {
    try {
      await unpackData();
      show();
      await findOutside();
      if (outside) show();
    } catch (error) {
      console.error(error);
      get("said").textContent = `This browser cannot show the two: ${error.message}`;
    }
  }));
}
