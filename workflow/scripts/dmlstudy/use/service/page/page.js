"use strict";
// Texts go into the page as text only (textContent), never as HTML: names are what somebody typed.
const $ = (id) => document.getElementById(id);
const NAMED_TOGETHER = 10;
let token = sessionStorage.getItem("token"), limits = null, chosen = [];

function element(tag, text, ...inside) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...inside);
  return made;
}
const percent = (value) => `${(100 * value).toFixed(0)} %`;
const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
function tell(text) { $("message").textContent = text; $("alarm").textContent = ""; }
function warn(text) { $("alarm").textContent = text; $("message").textContent = ""; }

async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  for (let attempt = 0; ; attempt++) {
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch {
      throw new Error("The service does not answer.");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) $("token-form").hidden = false;
    if (answer.status === 503 && attempt < 5) {
      const seconds = Number(answer.headers.get("Retry-After")) || 2;
      tell(`Many photographs wait; the next try is in ${seconds} s.`);
      await new Promise((done) => setTimeout(done, 1000 * seconds));
      continue;
    }
    let text = `The service answers with ${answer.status}.`;
    try {
      const { detail } = await answer.json();
      if (typeof detail === "string") text = detail;
    } catch { /* no sentence in it */ }
    throw Object.assign(new Error(text), { status: answer.status });
  }
}
const json = async (path, options) => (await call(path, options)).json();
const sendJson = (path, method, body) =>
  json(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
const attempt = (work) => async (...given) => {
  try { await work(...given); } catch (error) { warn(error.message); }
};

function picture(path, words) {
  // Fetched, not linked: the token goes with it.
  const image = element("img");
  image.alt = words;
  call(path).then((answer) => answer.blob()).then((blob) => {
    image.src = URL.createObjectURL(blob);
    image.onload = () => URL.revokeObjectURL(image.src);
  }).catch(() => {
    const none = element("div", "no picture");
    none.className = "none";
    image.replaceWith(none);
  });
  return image;
}
function ownPicture(file) {
  const image = element("img");
  image.alt = `your photograph ${file.name}`;
  image.src = URL.createObjectURL(file);
  image.onload = () => URL.revokeObjectURL(image.src);
  image.onerror = () => image.remove();
  return image;
}
function heatButton(card, photograph) {
  // photograph(): a promise of the file; the picture takes the place of the button.
  const button = element("button", "Where does the model look?");
  button.type = "button";
  button.onclick = attempt(async () => {
    button.disabled = true;
    try {
      const form = new FormData();
      form.append("photographs", await photograph(), "photograph");
      const answer = await call("/api/heatmap", { method: "POST", body: form });
      const name = decodeURIComponent(answer.headers.get("Class-Name"));
      const image = element("img");
      image.alt = `where the model looks when it finds the photograph like ${name}`;
      image.src = URL.createObjectURL(await answer.blob());
      const figure = element("figure", "", image, element("figcaption", `What the model sees; red: what makes it like ${name}.`));
      figure.className = "heat";
      button.replaceWith(figure);
    } finally {
      button.disabled = false;
    }
  });
  card.append(button);
}
function captioned(image, ...lines) {
  const caption = element("figcaption");
  lines.forEach((line, index) => caption.append(...(index ? [element("br")] : []), line));
  return element("li", "", element("figure", "", image, caption));
}

function answerCard(answer, image, rates = "") {
  const card = element("li");
  card.className = "card";
  card.append(element("h3", answer.photograph));
  if (answer.problem) {
    card.append(element("p", answer.problem));
    return card;
  }
  const said = element("p", answer.known ? answer.class_name : "unknown");
  said.className = answer.known ? "known" : "unknown";
  card.append(said);
  const nearest = answer.nearest[0];
  if (!answer.known && nearest) card.append(element("p", `It would be ${nearest.class_name}.`));
  const vote = answer.vote;
  let text = `Similarity ${answer.similarity.toFixed(4)}; vote: ${vote.class_name}, ${vote.votes} of ${vote.voters}`;
  if (answer.probability !== null) text += `; probability ${answer.probability.toFixed(2)}`;
  card.append(element("p", `${text}.`), element("p", `Why: ${answer.why}.`));
  if (!answer.known && rates) card.append(element("p", rates));
  const photos = element("ul");
  photos.className = "photos";
  photos.setAttribute("aria-label", "Your photograph and the nearest ones");
  photos.append(captioned(image, "your photograph"));
  for (const one of answer.nearest) {
    photos.append(captioned(picture(`/api/photographs/${one.image_id}`, `a photograph of ${one.class_name}`),
      one.class_name, one.similarity.toFixed(4)));
  }
  card.append(photos);
  return card;
}

async function name(files) {
  $("answers").replaceChildren();
  const all = [...files], unreadable = [];
  for (let start = 0; start < all.length; start += NAMED_TOGETHER) {
    const some = all.slice(start, start + NAMED_TOGETHER), form = new FormData();
    for (const file of some) form.append("photographs", file, file.name);
    tell(`Naming ${count(all.length, "photograph")}: ${start} done.`);
    let answers = [];
    try {
      ({ answers } = await json("/api/name", { method: "POST", body: form }));
    } catch (error) {
      // None of these can be read; the others are named all the same.
      if (error.status !== 422) throw error;
      unreadable.push(error.message);
    }
    answers.forEach((answer, index) => {
      const card = answerCard(answer, ownPicture(some[index]), $("rates").textContent);
      if (!answer.problem) heatButton(card, async () => some[index]);
      $("answers").append(card);
    });
  }
  const first = $("answers").querySelector(".known, .unknown");
  tell(all.length === 1 && first ? `Answer: ${first.textContent}.` : `${count(all.length, "photograph")} named.`);
  await Promise.all([showDoubts(), showDrift()]);
  if (unreadable.length) warn(unreadable.join("; "));
}

async function showDoubts() {
  const { doubts } = await json("/api/doubts"), list = $("doubt-list");
  list.replaceChildren();
  if (!doubts.length) list.append(element("li", "None wait."));
  for (const doubt of doubts) {
    const card = answerCard(doubt, picture(`/api/doubts/${doubt.doubt_id}/photograph`, `the photograph ${doubt.photograph}`));
    const field = element("input");
    field.setAttribute("list", "names");
    field.maxLength = 200;
    field.required = true;
    field.autocomplete = "off";
    field.value = doubt.nearest[0]?.class_name ?? "";
    const form = element("form", "", element("label", "Class: ", field), " ", element("button", "Confirm"));
    form.onsubmit = attempt(async (event) => {
      event.preventDefault();
      const change = await sendJson(`/api/doubts/${doubt.doubt_id}`, "POST", { class_name: field.value });
      tell(`${doubt.photograph} is now a photograph of ${change.class_name}.`);
      await refresh();
      $("doubts-head").scrollIntoView();
    });
    const dismiss = element("button", "Dismiss");
    dismiss.type = "button";
    dismiss.onclick = attempt(async () => {
      await call(`/api/doubts/${doubt.doubt_id}`, { method: "DELETE" });
      tell(`${doubt.photograph} is off the list.`);
      await showDoubts();
    });
    form.append(" ", dismiss);
    card.append(element("p", `Doubtful: ${doubt.doubtful}.`), form);
    list.append(card);
  }
}

function ask(text, value) {
  // Resolves to the new name, to true, or to null if the person cancels.
  const dialog = $("ask");
  $("ask-text").textContent = text;
  $("ask-line").hidden = value === undefined;
  $("ask-name").required = value !== undefined;
  $("ask-name").value = value ?? "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    dialog.onclose = () => done(dialog.returnValue !== "yes" ? null : value === undefined ? true : $("ask-name").value);
  });
}

async function showClasses() {
  const [{ classes }, { changes }, removed] = await Promise.all(["classes", "history", "removed"].map((what) => json(`/api/${what}`)));
  $("class-rows").replaceChildren(...classes.map((one) => {
    const head = element("th", one.class_name), cell = element("td");
    head.scope = "row";
    const button = (text, work) => {
      const made = element("button", text);
      made.type = "button";
      made.setAttribute("aria-label", `${text} ${one.class_name}`);
      made.onclick = attempt(work);
      cell.append(made, " ");
    };
    button("Rename", async () => {
      const wanted = await ask(`Rename ${one.class_name}`, one.class_name);
      if (wanted === null) return;
      await sendJson(`/api/classes/${one.class_id}`, "PATCH", { class_name: wanted });
      tell(`${one.class_name} is now called ${wanted}.`);
      await refresh();
    });
    button("Remove", async () => {
      if (!await ask(`Remove ${one.class_name} with ${count(one.photographs, "photograph")}? Until you delete them for good, this can be undone.`)) return;
      await json(`/api/classes/${one.class_id}`, { method: "DELETE" });
      tell(`${one.class_name} is removed.`);
      await refresh();
    });
    const since = one.since ? new Date(one.since).toLocaleString() : "–";
    return element("tr", "", head, element("td", String(one.photographs)), element("td", since), element("td", one.source), cell);
  }));
  $("names").replaceChildren(...classes.map((one) => {
    const option = element("option");
    option.value = one.class_name;
    return option;
  }));
  $("changes").replaceChildren(...changes.reverse().slice(0, 50).map((one) => element("li",
    `${new Date(one.time).toLocaleString()}: ${one.class_name ? `${one.class_name} ` : ""}${one.what}` +
    (one.before ? ` (before: ${one.before})` : "") + (one.source ? `, from ${one.source}` : ""))));
  $("removed").hidden = !removed.photographs && !removed.classes.length;
  $("removed-what").textContent = `Kept of removed classes: ${count(removed.photographs, "photograph")}.` +
    (removed.classes.length ? ` It can be undone that ${removed.classes.join(", ")} ${removed.classes.length > 1 ? "were" : "was"} removed.` : "");
  $("undo").disabled = !changes.some((one) => one.undoable);
  find();
}
function find() {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of $("class-rows").rows) {
    const text = row.cells[0].textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  $("found").textContent = `${shown} of ${$("class-rows").rows.length}`;
}

async function refresh() {
  const status = await json("/api/status");
  limits = status.limits;
  $("served").textContent = `${status.run}: ${count(status.classes, "class").replace(/classs$/, "classes")}, ${count(status.images, "photograph")}`;
  $("threshold").textContent = `Threshold: similarity ${status.threshold.toFixed(4)}; ${status.threshold_chosen.replace(/^threshold: /, "")}.`;
  $("rates").textContent = status.rates_in_words;
  await Promise.all([showClasses(), showDoubts(), showThresholds(), showDrift()]);
}

async function showThresholds() {
  const { thresholds } = await json("/api/thresholds");
  $("threshold-form").hidden = thresholds.length < 2;
  $("threshold-choices").replaceChildren(...thresholds.map((one) => {
    const choice = element("input");
    Object.assign(choice, { type: "radio", name: "share", value: one.accepted_share, checked: one.in_use, required: true });
    const text = ` ${percent(one.accepted_share)} of enrolled classes wanted: similarity ${one.similarity.toFixed(4)}${one.in_use ? " (in use)" : ""}. ${one.in_words}`;
    return element("p", "", element("label", "", choice, text));
  }));
}

const SVG = "http://www.w3.org/2000/svg";
function drawn(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}
function curve(title, points, value, shown, least) {
  // A line over groups of answers, oldest at the left; its ends and extremes are labelled.
  const width = 360, height = 130, left = 54, bottom = 24, top = 10;
  const values = points.map(value);
  const low = least ?? Math.min(...values), high = Math.max(...values, low + 1e-4);
  const x = (index) => left + (width - left - 8) * (points.length > 1 ? index / (points.length - 1) : 0.5);
  const y = (one) => top + (height - top - bottom) * (1 - (one - low) / (high - low));
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  picture.append(drawn("title", {}, `${title}: ${shown(values[0])} first, ${shown(values.at(-1))} last, between ${shown(Math.min(...values))} and ${shown(Math.max(...values))}`));
  for (const one of [low, high]) {
    picture.append(drawn("line", { x1: left, x2: width - 8, y1: y(one), y2: y(one), class: "grid" }),
      drawn("text", { x: left - 6, y: y(one) + 4, "text-anchor": "end" }, shown(one)));
  }
  picture.append(drawn("polyline", { points: values.map((one, index) => `${x(index)},${y(one)}`).join(" "), class: "line" }));
  values.forEach((one, index) => picture.append(drawn("circle", { cx: x(index), cy: y(one), r: 2.5, class: "point" })));
  const day = (point) => new Date(1000 * point.time).toLocaleDateString();
  picture.append(drawn("text", { x: left, y: height - 6 }, day(points[0])),
    drawn("text", { x: width - 8, y: height - 6, "text-anchor": "end" }, day(points.at(-1))));
  const figure = element("figure", "", element("figcaption", title), picture);
  figure.className = "curve";
  return figure;
}
const SIGNS = { similarities: "Similarities", unknown: "Unknown photographs", class: "A class that takes others" };
async function showDrift() {
  const drift = await json("/api/drift");
  let what = drift.newest
    ? `The newest ${drift.newest} answers are compared with the ${drift.before} before them.`
    : `Too few answers to compare: ${drift.answers} are logged, ${drift.needed} more are needed.`;
  if (drift.problem) what += ` Answers are not logged: ${drift.problem}.`;
  $("drift-what").textContent = what;
  $("drift-signs").replaceChildren(...drift.signs.map((sign) => {
    const card = element("li", "", element("h3", SIGNS[sign.sign]));
    card.className = "card";
    const verdict = element("p", sign.warns ? "Look at this." : "No change shown.");
    verdict.className = sign.warns ? "unknown" : "known";
    const p = sign.p_value < 0.0001 ? "p < 0.0001" : `p = ${sign.p_value.toFixed(4)}`;
    card.append(verdict, element("p", `${sign.sentence[0].toUpperCase()}${sign.sentence.slice(1)} (${p}).`));
    if (sign.warns && sign.doubts.length) {
      const photos = element("ul");
      photos.className = "photos";
      photos.setAttribute("aria-label", "Photographs that were kept");
      photos.append(...sign.doubts.map((one) => element("li", "", picture(`/api/doubts/${one}/photograph`, "a photograph that was kept"))));
      card.append(photos);
    }
    return card;
  }));
  $("drift-curves").replaceChildren(...(drift.curve.length > 1 ? [
    curve("Median similarity", drift.curve, (one) => one.similarity, (one) => one.toFixed(3)),
    curve("Share of unknown answers", drift.curve, (one) => one.unknown, percent, 0),
  ] : []));
}

function choose(files, folder) {
  // Other files of a folder (lists, thumbnails of programs) are not sent; the service looks at the content.
  chosen = [...files].filter((file) => !file.name.startsWith(".") && (file.type.startsWith("image/") || !file.type));
  chosen.from = folder || "";
  $("add-chosen").textContent = chosen.length ? `${count(chosen.length, "photograph")} chosen${folder ? ` from ${folder}` : ""}.` : "Nothing is chosen.";
  if (folder && !$("add-name").value) $("add-name").value = folder;
}
async function add() {
  if (!chosen.length) throw new Error("Choose photographs of the class first.");
  if (limits && chosen.length > limits.photographs) {
    throw new Error(`${chosen.length} photographs are too many for the page, which takes ${limits.photographs}; use enrol.py.`);
  }
  const form = new FormData();
  form.append("class_name", $("add-name").value);
  form.append("source", chosen.from ? `folder ${chosen.from}, ${count(chosen.length, "photograph")}` : count(chosen.length, "photograph"));
  for (const file of chosen) form.append("photographs", file, file.name);
  tell(`Adding ${count(chosen.length, "photograph")} …`);
  $("add-button").disabled = true;
  try {
    const change = await json(`/api/classes?existing=${$("add-existing").checked}`, { method: "POST", body: form });
    tell(`${count(change.images.length, "photograph")} of ${change.class_name} enrolled.`);
    $("add-form").reset();
    choose([]);
    await refresh();
  } finally {
    $("add-button").disabled = false;
  }
}

async function dropped(transfer) {
  // (files, name of the folder) of what was dropped; folders are searched.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [];
  const visit = async (entry) => {
    if (entry.isFile) {
      files.push(await new Promise((done, failed) => entry.file(done, failed)));
    } else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (!some.length) break;
        for (const one of some) await visit(one);
      }
    }
  };
  for (const entry of entries) await visit(entry);
  return [entries.length ? files : [...transfer.files], entries.length === 1 && entries[0].isDirectory ? entries[0].name : ""];
}
function takesDrops(zone, work) {
  zone.ondragover = (event) => { event.preventDefault(); zone.classList.add("over"); };
  zone.ondragleave = () => zone.classList.remove("over");
  zone.ondrop = attempt(async (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    await work(...await dropped(event.dataTransfer));
  });
}

takesDrops($("name-drop"), name);
takesDrops($("add-drop"), async (files, folder) => choose(files, folder));
for (const id of ["name-files", "name-camera"]) {
  $(id).onchange = attempt(async () => {
    if ($(id).files.length) await name($(id).files);
    $(id).value = "";
  });
}
$("add-files").onchange = () => choose($("add-files").files);
$("add-folder").onchange = () => {
  const files = $("add-folder").files;
  choose(files, files.length ? files[0].webkitRelativePath.split("/")[0] : "");
};
$("add-form").onsubmit = (event) => { event.preventDefault(); attempt(add)(); };
$("find").oninput = find;
$("undo").onclick = attempt(async () => {
  const change = await json("/api/undo", { method: "POST" });
  tell(`Undone: ${change.class_name ? `${change.class_name} ` : ""}${change.what}.`);
  await refresh();
});
$("forget").onclick = attempt(async () => {
  if (!await ask("Delete what is kept of removed classes? Changes up to the newest removal can then not be undone.")) return;
  const removed = await json("/api/removed", { method: "DELETE" });
  tell(`Deleted for good: ${count(removed.photographs, "photograph")}.`);
  await refresh();
});
$("threshold-form").onsubmit = attempt(async (event) => {
  event.preventDefault();
  const chosen = new FormData($("threshold-form")).get("share");
  await sendJson("/api/threshold", "PUT", { accepted_share: Number(chosen) });
  tell(`The threshold is now the one for ${percent(Number(chosen))}.`);
  await refresh();
});
$("token-form").onsubmit = attempt(async (event) => {
  event.preventDefault();
  token = $("token").value;
  await refresh();
  sessionStorage.setItem("token", token);
  $("token-form").hidden = true;
  tell("The token is right.");
});
attempt(refresh)();
