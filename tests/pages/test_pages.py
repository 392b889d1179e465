"""Pages in a real browser: opened from files, without a network."""

import base64
import copy
import io
import json
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import report as report_program
from drawn_study import DrawnStudy
from markupsafe import Markup
from names import EXPERIMENTS, NAMES
from PIL import Image

from dmlstudy.data.dataset import write_csv
from dmlstudy.data.pack import Pack
from dmlstudy.pages import images, long_tables
from dmlstudy.pages.comparison_page import TABLES, comparison_pages
from dmlstudy.pages.results.facts import facts_of_results
from dmlstudy.pages.results.study import Study

pytestmark = pytest.mark.pages

NO_PHOTOGRAPHS = {"seen": [], "unseen": [], "classes": [8, 4]}

# Position of a point of the map on the screen: [trace, number] → [x, y].
POINT = """([trace, number]) => {
  const plot = document.querySelector(".map .plot"), box = plot.getBoundingClientRect();
  const { xaxis, yaxis } = plot._fullLayout, one = plot.data[trace];
  return [box.left + xaxis._offset + xaxis.d2p(one.x[number]), box.top + yaxis._offset + yaxis.d2p(one.y[number])];
}"""


def column(page, table, number):
    """Texts of a column of a table: visible rows only, without bars and intervals."""
    cells = page.locator(f"#{table} tbody tr:not(.block):visible td:nth-child({number})")
    return [text.split("\n")[0].strip() for text in cells.all_inner_texts()]


def test_pages_draw_everything(visit, report, index):
    """Would catch a chart that stays empty, or a page that needs the network or a server."""
    for path, charts in ((report, 5), (index, 3)):
        page = visit(path)
        assert page.locator("figure.chart .main-svg").count() >= charts
        assert page.locator("figure.chart").count() == charts
        traces = page.evaluate(
            "[...document.querySelectorAll('figure.chart .plot')].map(plot => plot.data.length)"
        )
        assert all(traces)
    assert visit(report).locator(".map").get_attribute("data-drawn") == "180"


def test_tables_sort(visit, report):
    """Would catch numbers sorted as texts, empty cells that are not last, or a header without a key."""
    page = visit(report)
    worst_first = [float(value) for value in column(page, "classes1", 3)]
    assert worst_first == sorted(worst_first)
    header = page.locator("#classes1 th:nth-child(4) button")
    header.focus()
    page.keyboard.press("Enter")
    rising = [float(value) for value in column(page, "classes1", 4)]
    assert rising == sorted(rising)
    page.keyboard.press("Enter")
    assert [float(value) for value in column(page, "classes1", 4)] == sorted(rising, reverse=True)
    assert page.locator("#classes1 th[aria-sort=descending]").count() == 1


def test_search_shows_what_matches(visit, report):
    """Would catch a search that hides matches, or that reads a name as a pattern."""
    page = visit(report)
    field = page.locator("input[data-search=classes1]")
    field.fill("ALBATROSS")
    assert len(column(page, "classes1", 1)) == 2
    assert page.locator("input[data-search=classes1] + .found").inner_text() == "2 of 12"
    field.fill("<script>alert(1)")
    assert column(page, "classes1", 1) == ["<script>alert(1)</script>"]
    field.fill("albatross laysan")
    assert column(page, "classes1", 1) == ["002.Laysan_Albatross"]
    field.fill("")
    assert len(column(page, "classes1", 1)) == 12
    page.locator("input[data-search=evidence]").fill("script>alert")
    assert 1 <= page.locator("#evidence .card:visible").count() < page.locator(".card").count()


def section_of(study):
    """What the finished page holds of two models side by side."""
    text = (study.folder / "comparison" / "index.html").read_text(encoding="utf-8")
    return {
        "packed": Markup(re.search(r'id="side-data">([^<]*)<', text)[1]),
        "experiments": list(EXPERIMENTS),
        "beside": dict.fromkeys(EXPERIMENTS, "beside.js"),
        **dict.fromkeys(("queries", "shown", "photographs"), 36),
    }


def changed_index(study, name, change):
    """Write the page of all experiments after ``change(tables)`` beside the page; its path."""
    folder = study.folder / "comparison"
    path = folder / f"{name}.html"
    tables = {
        name: pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
        for name in TABLES
    }
    change(tables)
    facts, _ = facts_of_results(study.folder, tables)
    links = {name: ["x.html", "y.html"] for name in EXPERIMENTS}
    path.write_text(
        comparison_pages(Study(facts, tables), NO_PHOTOGRAPHS, section_of(study), "", links)[
            "index"
        ],
        encoding="utf-8",
    )
    return path


def test_blocks_stay_together(visit, study):
    """Would catch tuned variants sorted among the published recipes, or a heading that moves."""

    def in_blocks(tables):
        tables["experiments"]["block"] = ["published", "published", "tuned"]

    path = changed_index(study, "in_blocks", in_blocks)
    assert "pre-training" not in path.read_text(encoding="utf-8").lower()
    page = visit(path)
    heads = page.locator("#experiments tr.block")
    assert heads.all_inner_texts() == ["As published", "Tuned variants"]
    names = list(EXPERIMENTS)
    for expected in ([*sorted(names[:2]), names[2]], [*sorted(names[:2], reverse=True), names[2]]):
        page.locator("#experiments th[data-key=experiment] button").click()
        rows = page.locator("#experiments tbody tr:visible").all()
        first = [row.locator("td, th").first.inner_text() for row in rows]
        assert [text.strip("▸⚠ \n") for text in first] == [
            "As published", *expected[:2], "Tuned variants", expected[2],
        ]  # fmt: skip


def test_what_foundation_models_were_trained_on_is_shown(visit, study):
    """Would catch a foundation model whose pre-training and licence stand nowhere, or a name taken for HTML."""

    def pretrained(tables):
        known = dict.fromkeys(tables["pretraining"].columns, "") | {
            "experiment": next(iter(EXPERIMENTS)),
            "label": "<b>DINO</b>",
            "license": "Apache-2.0",
            "test_images": "likely",
            "feature_dim": 384,
            "image_size": 224,
        }
        tables["pretraining"] = pd.DataFrame([known])

    page = visit(changed_index(study, "pretrained", pretrained))
    assert page.locator("#pretraining-table tbody tr").count() == 1
    assert column(page, "pretraining-table", 2) == ["<b>DINO</b>"]
    assert [column(page, "pretraining-table", number) for number in (3, 4)] == [["384"], ["224"]]
    assert column(page, "pretraining-table", 5) == ["Apache-2.0"]


def test_accuracy_against_drop_is_drawn_once(visit, index):
    """Would catch a plot of the Snakemake report that differs from the page's, or whose points lead nowhere."""
    read = """() => [...document.querySelectorAll('.overview .point')].map(one =>
      [one.dataset.of, one.title, one.style.left, one.style.bottom])"""
    plot = visit(index.parent / "plot_drop.html", width=1440)
    assert plot.evaluate(read) == visit(index, width=1440).evaluate(read)
    assert plot.evaluate("document.documentElement.scrollWidth") <= 1440
    plot.locator(".overview .point[data-of='EPSHN_base+1dBN']").click()
    plot.wait_for_url("**/report.html")
    assert plot.title() == "EPSHN_base+1dBN"


def shown_traces(page, chart):
    return page.evaluate(
        f"document.querySelector('#chart-{chart} .plot').data"
        ".filter(trace => trace.visible !== false).map(trace => trace.name)"
    )


def test_plots_filter(visit, index):
    """Would catch a filter that leaves lines of other experiments, or that skips a plot."""
    page = visit(index)
    assert len(shown_traces(page, "curves")) == 2 * len(EXPERIMENTS)
    page.locator("#plot-search").fill("arcface")
    assert shown_traces(page, "enrolment") == ["ArcFace_base"]
    assert len(shown_traces(page, "curves")) == 2
    page.get_by_label("limited models").uncheck()
    assert shown_traces(page, "curves") == ["ArcFace_base, all classes"]
    page.get_by_role("checkbox", name="EPSHN_base+1dBN", exact=True).check()
    assert len(shown_traces(page, "curves")) == 2
    page.get_by_role("button", name="none", exact=True).click()
    assert shown_traces(page, "enrolment") == []
    page.get_by_role("button", name="all", exact=True).click()
    assert len(shown_traces(page, "enrolment")) == len(EXPERIMENTS)


def test_map_shows_the_point_under_the_mouse(visit, report):
    """Would catch a card that shows the name or thumbnail of another image."""
    page = visit(report)
    page.locator(".map .plot").scroll_into_view_if_needed()
    # Among close points the nearest counts, so the test takes the most isolated point.
    trace, number = page.evaluate("""() => {
      const all = document.querySelector(".map .plot").data.slice(0, 4)
        .flatMap((one, trace) => one.x.map((x, number) => [x, one.y[number], trace, number]));
      const gap = ([x, y], self) => Math.min(...all.map((other, index) =>
        index === self ? Infinity : Math.hypot(other[0] - x, other[1] - y)));
      const gaps = all.map(gap);
      return all[gaps.indexOf(Math.max(...gaps))].slice(2);
    }""")
    x, y = page.evaluate(POINT, [trace, number])
    page.mouse.move(x - 30, y - 30)
    page.mouse.move(x, y, steps=5)
    page.locator(".map-card .thumb").wait_for(state="visible")
    found = page.evaluate("""([trace, number]) => {
      const data = JSON.parse(document.getElementById("map-data").textContent), model = data.models[0];
      const one = document.querySelector(".map .plot").data[trace];
      const at = model.x.findIndex((x, index) => x === one.x[number] && model.y[index] === one.y[number]);
      return [data.names[data.classes[model.ids[at]]], model.ids[at] % data.columns, Math.floor(model.ids[at] / data.columns)];
    }""", [trace, number])  # fmt: skip
    card = page.locator(".map-card")
    assert card.locator("p").first.text_content() == found[0]
    place = card.locator(".thumb").evaluate(
        "photo => [photo.style.getPropertyValue('--x'), photo.style.getPropertyValue('--y')]"
    )
    assert [int(value) for value in place] == found[1:]


def test_map_works_by_keyboard_and_search(visit, report):
    """Would catch a map that only works with a mouse, or a search that marks other classes."""
    page = visit(report)
    page.locator("[name=map-search]").fill("<script>alert(1)</script>")
    assert page.locator(".map .found").inner_text() == "1 class"
    page.locator(".map .plot").focus()
    names = set()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        names.add(page.locator(".map-card p").first.text_content())
    assert names == {"<script>alert(1)</script>"}
    assert "unseen class" in page.locator(".map-card").inner_text()
    photo = page.locator(".map-card .thumb")
    assert photo.get_attribute("aria-label") == "image of <script>alert(1)</script>"
    page.locator("[name=map-search]").fill("albatross")
    assert page.locator(".map .found").inner_text() == "2 classes"
    page.locator(".map .plot").focus()
    seen = []
    for _ in range(2):
        page.keyboard.press("ArrowDown")
        seen.append(page.locator(".map-card p").first.text_content())
    assert sorted(seen) == NAMES[:2]


def test_map_of_the_limited_model_shows_unseen_classes_apart(visit, report):
    """Would catch a choice of model that changes nothing, or unseen classes drawn as seen ones."""
    page = visit(report)
    read = "document.querySelector('.map .plot').data.slice(0, 4).map(one => [one.x.length, one.marker.symbol, one.x[0]])"
    before = page.evaluate(read)
    assert [count for count, _, _ in before] == [96, 24, 48, 12]
    assert len({symbol for _, symbol, _ in before}) == 4
    page.locator("[name=map-model]").select_option(label="limited classes")
    after = page.evaluate(read)
    assert [count for count, _, _ in after] == [96, 24, 48, 12]
    assert before[0][2] != after[0][2]


def test_names_are_shown_as_text(visit, report):
    """Would catch a class name read as HTML: `visit` fails at a dialog or a broken script."""
    page = visit(report)
    cells = page.locator("#classes1 tbody td:first-child").all()
    assert sorted(cell.text_content().strip() for cell in cells) == sorted(NAMES)
    assert page.locator("main b b, main img[src=x]").count() == 0
    for name in NAMES[8:]:
        assert page.locator("#evidence .card").filter(has_text=name).count() >= 1
    options = page.locator("#map-names option").all()
    assert [option.get_attribute("value") for option in options] == NAMES
    # The card of the map shows them as text too.
    page.locator("[name=map-search]").fill(NAMES[10])
    page.locator(".map .plot").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".map-card p").first.text_content() == NAMES[10]


def test_every_image_has_a_description(visit, report, index):
    """Would catch an image or chart without a description for screen readers."""
    for path in (report, index):
        page = visit(path)
        without = page.evaluate(
            """() => [...document.querySelectorAll('img, [role=img], [role=application], input, select')]
              .filter(one => !(one.alt || one.ariaLabel || one.labels?.length)).map(one => one.outerHTML.slice(0, 80))"""
        )
        assert without == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_pages_fit_a_phone_in_both_colours(visit, report, index, colours):
    """Would catch a page wider than the screen, or text without contrast to its background."""
    for path in (report, index):
        page = visit(path, width=375, colours=colours)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        background, text, plot = page.evaluate(
            """() => { const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
                 return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
               const canvas = document.createElement('div'); canvas.style.background = 'Canvas';
               document.body.append(canvas);
               return [light(getComputedStyle(canvas).backgroundColor), light(getComputedStyle(document.body).color),
                 light(getComputedStyle(document.querySelector('.chart text')).fill)]; }"""
        )
        assert (background > 128) == (colours == "light")
        assert abs(background - text) > 128
        assert abs(background - plot) > 100


def test_links_lead_to_pages(visit, report, index):
    """Would catch a link that a plus sign in a name breaks."""
    page = visit(index)
    page.get_by_role("link", name="EPSHN_base+1dBN", exact=True).click()
    page.wait_for_url("**/report.html")
    assert page.title() == "EPSHN_base+1dBN"
    page.get_by_role("link", name="All experiments").click()
    page.wait_for_url("**/index.html")
    for name in EXPERIMENTS:
        href = page.get_by_role("link", name=name, exact=True).get_attribute("href")
        assert (index.parent / href.replace("%2B", "+")).resolve().is_file()


def test_same_tables_same_bytes(study, report, index):
    """Would catch a page with a date, a random id, or an order that changes."""
    before = report.read_bytes(), index.read_bytes()
    study.report("EPSHN_base+1dBN")
    study.index()
    assert (report.read_bytes(), index.read_bytes()) == before


def test_page_of_cub_size_can_be_mailed(tmp_path, visit):
    """Would catch a page of 11,788 images above 15 MB, or one that the browser cannot draw."""
    names = [f"{number + 1:03d}.Drawn_Bird_{number}" for number in range(200)]
    study = DrawnStudy(tmp_path / "study", names, 11_788, 20, {"drawn": 0.25}, photographs=400)
    study.evaluate(bootstrap_draws=20, enrolment_draws=1)
    study.check_health(bootstrap_draws=20)
    study.score_rejection(bootstrap_draws=20)
    study.answer(bootstrap_draws=20)
    study.thumbnails()
    for run in study.runs("drawn"):
        # UMAP would take longer than all else; these coordinates need as many bytes.
        with np.load(run / "embeddings.npz") as stored:
            tables = [pd.DataFrame({"image_id": stored[f"{role}_image_ids"], "is_query": number,
                                    "x": 10 * stored[f"{role}_embeddings"][:, 0],
                                    "y": 10 * stored[f"{role}_embeddings"][:, 1]})
                      for number, role in enumerate(("gallery", "query"))]  # fmt: skip
        write_csv(run / "map.csv", pd.concat(tables))
    path = study.report("drawn")
    assert path.stat().st_size < 15e6
    page = visit(path)
    assert page.locator(".map").get_attribute("data-drawn") == "11788"
    assert page.locator("#classes1 tbody tr").count() == 200


def test_page_of_a_large_data_set_shows_a_part_and_says_so(study, tmp_path, visit, monkeypatch):
    """Would catch a page that grows with the data set, thumbnails of other images, and silence about it."""
    large = copy.copy(study)
    large.folder = tmp_path / "study"
    large.data, large.pack = large.folder / "data", large.folder / "data" / study.pack.name
    shutil.copytree(study.folder, large.folder)
    name = "EPSHN_base+1dBN"
    for run in large.runs(name):
        table = pd.read_csv(run / "map.csv")
        write_csv(run / "map.csv", table[table["image_id"] % 5 == 2])
    monkeypatch.setattr(images, "ALL_SHOWN", 100)
    monkeypatch.setattr(long_tables, "ROWS", 5)

    def run(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        report_program.main()

    large.run = run
    path = large.report(name)
    html = path.read_text(encoding="utf-8")
    columns, uri = re.search(
        r"--columns: (\d+); background-image: url\(data:.*?,(.*?)\)", html
    ).groups()
    thumbnails = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGB"))
    pack = Pack(large.pack)
    manifest = pd.read_csv(large.data / "manifest.csv")
    shown = json.loads(re.search(r'id="map-data">(.*?)</script>', html, re.DOTALL)[1])["places"]
    assert sorted(map(int, shown)) == list(range(2, 180, 5))
    for image, place in shown.items():
        down, across = (40 * one for one in divmod(place, int(columns)))
        found = thumbnails[down : down + 40, across : across + 40]
        alone = images.sprite(pack, [int(image)], manifest, 40)
        expected = np.asarray(Image.open(io.BytesIO(alone)).convert("RGB"))
        assert np.abs(found.astype(int) - expected).mean() < 12
    page = visit(path)
    assert page.locator(".map").get_attribute("data-drawn") == "36"
    assert "The map has 36 of 180 images" in page.locator("#map").inner_text()
    assert page.locator("#classes1 tbody tr").count() == 5
    assert "first 5 of 12 rows" in page.locator("#classes").inner_text()
    assert (
        "seed42/limited_classes/comparison_all_classes.csv" in page.locator("#classes").inner_text()
    )
    # Averages stay below the classes that are shown.
    assert column(page, "report1", 1)[-3:] == ["accuracy", "macro avg", "weighted avg"]
    assert page.locator("#report1 tbody tr").count() == 8
