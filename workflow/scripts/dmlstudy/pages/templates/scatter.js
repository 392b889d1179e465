"use strict";
// Names at the points of the plot: those that fit beside others; the rest shows when it is pointed at.
{
  const area = document.querySelector(".overview .area");
  const points = [...area.querySelectorAll(".point")];
  const left = document.getElementById("unnamed");
  const overlaps = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const place = () => {
    const frame = area.getBoundingClientRect(), taken = [];
    const shown = points.filter(point => !point.hidden);
    for (const point of shown) {
      const box = point.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + box.height / 2;
      taken.push({ left: x - 6, right: x + 6, top: y - 6, bottom: y + 6, of: point });
    }
    let without = 0;
    for (const point of points) {
      const name = point.nextElementSibling;
      name.hidden = point.hidden;
      if (point.hidden) continue;
      name.style.visibility = "hidden";
      const { width, height } = name.getBoundingClientRect(), box = point.getBoundingClientRect();
      const x = box.left + box.width / 2, y = box.top + box.height / 2;
      const spots = [[x + 8, y - height / 2], [x - 8 - width, y - height / 2], [x - width / 2, y - height - 8], [x - width / 2, y + 8],
        [x + 6, y - height - 4], [x + 6, y + 4], [x - 6 - width, y - height - 4], [x - 6 - width, y + 4]];
      const inside = ([a, b]) => a >= frame.left + 1 && a + width <= frame.right + 4 && b >= frame.top && b + height <= frame.bottom;
      const free = spots.find(spot => inside(spot) && !taken.some(one => one.of !== point
        && overlaps(one, { left: spot[0], right: spot[0] + width, top: spot[1], bottom: spot[1] + height })));
      const spot = free ?? spots.find(inside) ?? [Math.max(frame.left, Math.min(x - width / 2, frame.right - width)), y - height - 8];
      name.style.left = `${spot[0] - frame.left}px`;
      name.style.top = `${spot[1] - frame.top}px`;
      if (!free) { without += 1; continue; }
      name.style.visibility = "";
      taken.push({ left: spot[0], right: spot[0] + width, top: spot[1], bottom: spot[1] + height });
    }
    left.textContent = without ? `${without} names do not fit: point at a dot, or reach it with the Tab key.` : "";
  };
  const point = (one, wanted) => one.nextElementSibling.classList.toggle("pointed", wanted);
  points.forEach(one => {
    const name = one.nextElementSibling;
    let before = "";
    const enter = () => { before = name.style.visibility; name.style.visibility = "visible"; point(one, true); };
    const leave = () => { name.style.visibility = before; point(one, false); };
    one.addEventListener("mouseenter", enter); one.addEventListener("mouseleave", leave);
    one.addEventListener("focus", enter); one.addEventListener("blur", leave);
    one.addEventListener("click", event => {
      const row = document.getElementById(one.hash.slice(1));
      // On a page of its own the plot has no table; its points lead to the pages of experiments.
      if (!row) return;
      event.preventDefault();
      row.scrollIntoView({ block: "center" });
      row.querySelector("a").focus();
    });
  });
  document.addEventListener("experiments-shown", ({ detail }) => {
    area.querySelectorAll("[data-of]").forEach(one => { one.hidden = !detail.has(one.dataset.of); });
    place();
  });
  addEventListener("resize", place);
  place();
}
