"""Any two models side by side: numbers, photographs, links, heat maps and maps, and what is missing."""

import shutil
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from barriers import serious_barriers
from drawn_study import SEED
from names import EXPERIMENTS, NAMES

pytestmark = pytest.mark.pages

SHOWN = "document.getElementById('side').dataset.shown"
FIRST, SECOND = "EPSHN_base+1dBN", "ArcFace_base"
CLASS_SETS = {"all": "all_classes", "limited": "limited_classes"}
# Resamples of the study of these tests.
DRAWS = 200


def answers(study, name, kind):
    folder = study.folder / "experiments" / name / f"seed{SEED}" / CLASS_SETS[kind]
    return pd.read_csv(folder / "queries.csv").set_index("image_id")


def choose(page, one, other):
    """Choose two models, each (experiment, kind), and wait until they are shown."""
    for which, (name, kind) in (("one", one), ("other", other)):
        page.locator(f"#side-{which}").select_option(name)
        page.locator(f"#side-{which}-model").select_option(kind)


def points(value):
    # Adding 0 turns −0.0 into 0.0.
    return f"{round(100 * value, 1) + 0.0:.1f}".replace("-", "−")


def said(value, low, high):
    plus = "+" if round(100 * value, 1) > 0 else ""
    return f": {plus}{points(value)} points [{points(low)}, {points(high)}]"


@pytest.mark.parametrize("kind", ["all", "limited"])
def test_difference_is_that_of_the_table(visit, study, index, kind):
    """Would catch a difference of another pair, one with the wrong sign, or ends in the wrong order."""
    metric = {"all": "precision_at_1", "limited": "limited_precision_at_1"}[kind]
    table = pd.read_csv(study.folder / "comparison" / "differences.csv")
    table = table[(table["metric"] == metric) & (table["role"] == "baseline")]
    assert len(table) == 2
    page = visit(index)
    page.wait_for_function(SHOWN)
    for row in table.to_dict("records"):
        one, other = (row["experiment"], kind), (row["compared_with"], kind)
        choose(page, one, other)
        text = page.locator("#side-said").inner_text()
        assert said(row["difference"], row["low"], row["high"]) in text
        assert text.startswith(f"{row['experiment']}, {kind} classes minus {row['compared_with']}")
        assert ("no difference is shown" in text) == (row["low"] <= 0 <= row["high"])
        page.get_by_role("button", name="Swap").click()
        text = page.locator("#side-said").inner_text()
        assert said(-row["difference"], -row["high"], -row["low"]) in text


def test_difference_that_no_table_has(visit, study, index):
    """Would catch an interval that is not paired by query, or one of other resamples."""
    one, other = (SECOND, "all"), (FIRST, "limited")
    own = answers(study, *one)["correct"] - answers(study, *other)["correct"]
    drawn = np.random.default_rng(42).integers(0, len(own), (DRAWS, len(own)))
    low, high = np.percentile(own.to_numpy()[drawn].mean(axis=1), [2.5, 97.5])
    page = visit(index)
    page.wait_for_function(SHOWN)
    choose(page, one, other)
    assert said(own.mean(), low, high) in page.locator("#side-said").inner_text()


def shown_images(page, which):
    """Ids of the queries in a list, after all of them were asked for."""
    part = page.locator(f"[data-only-right={which}]")
    while part.locator("button:visible").count():
        part.locator("button:visible").click()
    cards = part.locator(".card").all()
    return [int(card.get_attribute("data-image")) for card in cards]


@pytest.mark.parametrize(
    ("one", "other"),
    [((FIRST, "all"), (SECOND, "all")), ((SECOND, "all"), (SECOND, "limited"))],
)
def test_photographs_are_those_that_only_one_gets_right(visit, study, index, one, other):
    """Would catch a query that both or none get right, a count that differs, or a neighbour of another query."""
    tables = [answers(study, *model) for model in (one, other)]
    right = [table["correct"] == 1 for table in tables]
    page = visit(index)
    page.wait_for_function(SHOWN)
    choose(page, one, other)
    counts = page.locator("#side-counts").inner_text()
    both, neither = (right[0] & right[1]).sum(), (~right[0] & ~right[1]).sum()
    manifest = pd.read_csv(study.data / "manifest.csv", keep_default_na=False)
    found = 0
    for at, which in enumerate(("one", "other")):
        wanted = right[at] & ~right[1 - at]
        ids = shown_images(page, which)
        assert sorted(ids) == sorted(wanted.index[wanted])
        # The surest mistake first.
        wrong = tables[1 - at]["similarity"]
        distances = [round((2 - 2 * wrong[image]) ** 0.5, 2) for image in ids]
        assert distances == sorted(distances)
        for image in ids:
            photos = page.locator(f"[data-image='{image}'] figure").all()
            row = manifest.iloc[image]
            text = photos[0].inner_text()
            assert (
                row["class_name"].strip() in text.replace("\u2028", "\n")
                or "\u2028" in row["class_name"]
            )
            assert f"test image · {row['path']}" in text
            for table, photo in zip(tables, photos[1:], strict=True):
                near = manifest.iloc[table.loc[image, "nearest_image_id"]]
                text = photo.inner_text()
                assert f"training image · {near['path']}" in text
                assert f"distance {(2 - 2 * table.loc[image, 'similarity']) ** 0.5:.2f}" in text
                assert ("✓" in text) == (table.loc[image, "correct"] == 1)
            assert page.locator(f"[data-image='{image}'] .thumb").count() == 3
        found += len(ids)
    assert found
    assert f"Both right: {both} " in counts
    assert f"neither: {neither}." in counts
    # A photograph is its own thumbnail: the sprite of all images has it at the place of its id.
    assert page.locator("#side-missing").is_hidden()
    place = page.locator("#side .card .thumb").first.evaluate(
        "one => ['--columns', '--x', '--y'].map(key => Number(one.style.getPropertyValue(key)))"
    )
    image = int(page.locator("#side .card").first.get_attribute("data-image"))
    assert place[1] + place[0] * place[2] == image


def test_link_keeps_the_choice(visit, index):
    """Would catch a link that forgets the choice, or a plus sign that becomes a space."""
    page = visit(index)
    page.wait_for_function(SHOWN)
    choose(page, (FIRST, "limited"), (SECOND, "all"))
    text, address = page.locator("#side-said").inner_text(), page.url
    assert f"one={quote(FIRST)}" in address.replace("%2B", "+").replace(FIRST, quote(FIRST))
    other = visit(address)
    other.wait_for_function(SHOWN)
    assert other.locator("#side-said").inner_text() == text
    assert other.locator("#side-one").input_value() == FIRST
    # The link of the main table still works.
    assert visit(f"{index.as_uri()}#table&search=arcface").locator("#experiments tr.row:visible").count() == 1  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        "one=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&other-model=nothing",
        "one=&other=__proto__&one-model=all&one-model=limited",
        "&&&=%E0%A4%A",
    ],
)
def test_nonsense_in_a_link_changes_nothing(visit, index, values):
    """Would catch a page that a link breaks (`visit` fails at an error or a dialog), or one that does not say so."""
    page = visit(f"{index.as_uri()}#side&{values}")
    page.wait_for_function(SHOWN)
    assert page.locator("#side-one").input_value() in EXPERIMENTS
    assert "points [" in page.locator("#side-said").inner_text()
    assert page.locator("#side-note").is_visible() == ("one=" in values)
    assert page.locator("#side img").count() == 0


def test_same_model_twice(visit, index):
    """Would catch a difference of a model and itself."""
    page = visit(index)
    page.wait_for_function(SHOWN)
    choose(page, (FIRST, "all"), (FIRST, "all"))
    assert "same model" in page.locator("#side-said").inner_text()
    assert page.locator("#side .card").count() == 0


def test_heat_maps_and_maps_stand_side_by_side(visit, study, index):
    """Would catch heat maps of different queries beside each other, and a map of another model."""
    page = visit(index, width=1440)
    page.wait_for_function(SHOWN)
    choose(page, (FIRST, "limited"), (SECOND, "all"))
    page.locator("#side-more summary").press("Enter")
    page.wait_for_function("document.getElementById('side-maps').dataset.drawn")
    folders = [study.folder / "experiments" / name / f"seed{SEED}" for name in (FIRST, SECOND)]
    queries = [set(pd.read_csv(one / "heatmaps" / "heatmaps.csv")["image_id"]) for one in folders]
    cards = page.locator("#side-heatmaps .card")
    assert cards.count() == len(queries[0] & queries[1]) > 0
    assert [text.split(":")[0] for text in cards.first.locator("figcaption").all_inner_texts()] == [
        "query",
        "first",
        "second",
    ]
    drawn = page.evaluate(
        "[...document.querySelectorAll('.side-map')].map(plot => plot.data.map(one => [one.x.length, [...one.x]]))"
    )
    for traces, folder, kind in zip(drawn, folders, ("limited", "all"), strict=True):
        table = pd.read_csv(folder / CLASS_SETS[kind] / "map.csv")
        queries = pd.read_csv(folder / CLASS_SETS[kind] / "queries.csv").set_index("image_id")
        right = queries.index[queries["correct"] == 1]
        test = table["is_query"] == 1
        for trace, mask in zip(
            traces,
            (~test, table["image_id"].isin(right), test & ~table["image_id"].isin(right)),
            strict=True,
        ):
            assert trace[1] == pytest.approx(table.loc[mask, "x"].round(3).tolist(), abs=1e-6)
    assert serious_barriers(page) == []
    # Another choice closes it: what is shown is never that of other models.
    page.locator("#side-one-model").select_option("all")
    assert page.locator("#side-more").get_attribute("open") is None


def test_page_alone_says_what_is_missing(chromium, index, tmp_path):
    """Would catch a page that was mailed and shows nothing, or does not say what lies elsewhere."""
    shutil.copy(index, tmp_path / "index.html")
    # Not `visit`, which fails at the files that are missing.
    page = chromium.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_function(f"{SHOWN} && !document.getElementById('side-missing').hidden")
    assert page.locator("#side .card .thumb.inside").count() > 0
    page.locator("#side-more summary").click()
    page.wait_for_function(
        "document.getElementById('side-more-said').textContent.includes('Not in the results folder')"
    )
    assert page.locator("#side-more-said a").count() == 2
    page.close()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_section_fits_a_phone(visit, index, colours):
    """Would catch a section wider than a phone, and a control without a name or without contrast."""
    page = visit(index, width=390, colours=colours)
    page.wait_for_function(SHOWN)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for label in ("Experiment", "Model"):
        assert page.locator("#side").get_by_label(label).count() == 2
    assert serious_barriers(page, "#side") == []


def test_names_are_text(visit, study, index):
    """Would catch a class name that is read as HTML."""
    page = visit(index)
    page.wait_for_function(SHOWN)
    seen = set()
    for one in EXPERIMENTS:
        choose(page, (one, "all"), (one, "limited"))
        for which in ("one", "other"):
            shown_images(page, which)
        seen |= set(page.locator("#side figcaption b").all_text_contents())
    assert {text.lstrip("✓✗ ") for text in seen} <= set(NAMES)
    assert {"<script>alert(1)</script>", NAMES[11]} & {text.lstrip("✓✗ ") for text in seen}
    assert page.locator("#side script:not(#side-data)").count() == 0
