"""The main table of the comparison page: numbers, sorting, folding, opening, filters, copies, links, cards."""

import csv
import io

import pandas as pd
import pytest
from names import EXPERIMENTS

from dmlstudy.evaluate.deductions import hundredths

pytestmark = pytest.mark.pages

ROW = "#experiments tr.row:visible"
# What was copied: pasted into a field.
PASTED = """() => { const field = document.createElement('textarea'); field.id = 'pasted';
  document.body.append(field); field.focus(); }"""


def order(page):
    return [row.get_attribute("data-experiment") for row in page.locator(ROW).all()]


def shown(page, key):
    """{experiment: (shown text, value, low, high)} of a column."""
    return page.evaluate(
        """key => { const heads = [...document.querySelectorAll('#experiments th[data-key]')];
        const at = heads.findIndex(one => one.dataset.key === key);
        return Object.fromEntries([...document.querySelectorAll('#experiments tr.row')].map(row => {
          const { value, low, high } = row.cells[at].dataset;
          const own = row.cells[at].querySelector('.cell > span');
          return [row.dataset.experiment, [own.innerText.trim(), value, low, high, own.className]]; })); }""",
        key,
    )


def test_numbers_are_those_of_the_tables(visit, study, index):
    """Would catch a number in the wrong row or column, or one that was rounded another way."""
    page = visit(index)
    folder = study.folder / "comparison"
    metrics = pd.read_csv(folder / "metrics.csv").set_index(["experiment", "metric"])
    differences = pd.read_csv(folder / "differences.csv")
    differences["column"] = differences["role"] + "_" + differences["metric"]
    differences = differences.set_index(["experiment", "column"])
    rejection = pd.read_csv(folder / "rejection.csv")
    rejection = rejection[rejection["model"] == rejection["class_set"]].set_index("experiment")
    costs = pd.read_csv(folder / "costs.csv")
    costs = costs[costs["class_set"] == "all_classes"].set_index("experiment")
    keys = page.evaluate(
        "[...document.querySelectorAll('#experiments th[data-key]')].slice(1).map(one => one.dataset.key)"
    )
    unit = page.locator("#experiments th[data-key=train_time]").get_attribute("data-unit")
    assert unit == ("s" if costs["train_seconds"].max() <= 600 else "min")
    compared = 0
    for key in keys:
        for name, (text, value, low, high, colour) in shown(page, key).items():
            if (name, key) in metrics.index:
                row = metrics.loc[name, key]
                wanted = hundredths(row["value"])
            elif (name, key) in differences.index:
                row = differences.loc[name, key].rename({"difference": "value"})
                wanted = ("+" if row["value"] > 0 else "") + hundredths(row["value"])
                side = "better" if row["low"] > 0 else "worse" if row["high"] < 0 else ""
                assert colour == side
            elif key == "auroc":
                one = rejection.loc[name]
                row = {"value": one["auroc"], "low": one["auroc_low"], "high": one["auroc_high"]}
                wanted = f"{one['auroc']:.3f}"
            elif key == "train_time":
                row = {"value": costs.loc[name, "train_seconds"] / (1 if unit == "s" else 60)}
                wanted = f"{row['value']:.1f}"
            else:
                continue
            assert text == wanted
            assert float(value) == pytest.approx(row["value"], abs=1e-9)
            if low is not None:
                assert float(low) == pytest.approx(row["low"], abs=1e-9)
                assert float(high) == pytest.approx(row["high"], abs=1e-9)
            compared += 1
    # 11 columns for every experiment, and two differences to the baseline for all but the baseline.
    assert compared >= 11 * len(EXPERIMENTS) + 2 * (len(EXPERIMENTS) - 1)


def test_rows_are_one_line(visit, index):
    """Would catch rows that become tall again, or a head or first column that scrolls away."""
    page = visit(index, width=1024)
    heights = page.evaluate(
        "[...document.querySelectorAll('#experiments tr.row')].map(row => row.getBoundingClientRect().height)"
    )
    assert max(heights) <= 34
    page.locator("#experiments th[data-group=all] button").click()
    page.locator("#experiments th[data-group=cost] button").click()
    place = """() => { const box = document.querySelector('.main-table'); box.scrollLeft = 400;
      return [document.querySelector('#experiments tr.row .name').getBoundingClientRect().left - box.getBoundingClientRect().left, box.scrollLeft]; }"""
    offset, scrolled = page.evaluate(place)
    assert scrolled > 100
    assert abs(offset) <= 2


def test_groups_fold(visit, index):
    """Would catch a group that hides nothing, or a head that does not span its columns."""
    page = visit(index)
    visible = "[...document.querySelectorAll('#experiments th[data-key]')].filter(one => one.offsetParent).length"
    before = page.evaluate(visible)
    button = page.locator("#experiments th[data-group=unseen] button")
    button.click()
    assert page.evaluate(visible) == before + 3
    assert button.get_attribute("aria-expanded") == "true"
    assert page.locator("#experiments th[data-group=unseen]").get_attribute("colspan") == "6"
    button.click()
    assert page.evaluate(visible) == before


def test_sorts_and_searches(visit, index):
    """Would catch numbers sorted as texts, a detail that leaves its row, or a plot that keeps what is hidden."""
    page = visit(index)
    head = page.locator("#experiments th[data-key=precision_at_1]")
    head.locator("button").click()
    values = {name: float(one[1]) for name, one in shown(page, "precision_at_1").items()}
    assert order(page) == sorted(values, key=values.get, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").press("Enter")
    assert order(page) == sorted(values, key=values.get)
    after = page.evaluate(
        "[...document.querySelectorAll('#experiments tr.row')].every(row => row.nextElementSibling.classList.contains('detail'))"
    )
    assert after
    page.locator("#table-search").fill("arcface")
    assert order(page) == ["ArcFace_base"]
    assert page.locator("#table-said").inner_text() == "1 of 3 experiments"
    assert page.locator(".overview .point:visible").count() == 1
    page.locator("#table-search").fill("")
    page.locator("#table-kind").select_option("classifier")
    assert order(page) == []


def test_row_opens(visit, study, index):
    """Would catch a deduction that cannot be read, or one of another row."""
    page = visit(index)
    table = pd.read_csv(study.folder / "comparison" / "experiments.csv").set_index("experiment")
    button = page.get_by_role("button", name="what the row of ArcFace_base says")
    assert page.locator("tr.detail:visible").count() == 0
    button.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    detail = page.locator("tr.detail:visible")
    assert table.loc["ArcFace_base", "deduction"] in detail.inner_text()
    button.click()
    assert page.locator("tr.detail:visible").count() == 0


def test_table_is_copied(visit, index, study):
    """Would catch a copy with other rows, columns or numbers than those in sight."""
    page = visit(index)
    page.locator("#table-search").fill("EPSHN")
    page.locator("#experiments th[data-key=precision_at_1] button").click()
    names = order(page)
    columns = page.evaluate(
        "[...document.querySelectorAll('#experiments th[data-key]')].filter(one => one.offsetParent).length"
    )
    page.evaluate(PASTED)

    def copied(what):
        page.locator(f"[data-copy={what}]").click()
        page.wait_for_function(
            "document.getElementById('table-said').textContent.endsWith('copied')"
        )
        field = page.locator("#pasted")
        field.fill("")
        field.press("Control+V")
        return field.input_value()

    lines = copied("markdown").splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == names
    assert all(line.count(" | ") == columns - 1 for line in lines)
    rows = list(csv.DictReader(io.StringIO(copied("csv"))))
    table = pd.read_csv(study.folder / "comparison" / "experiments.csv").set_index("experiment")
    assert [row["experiment"] for row in rows] == names
    for row in rows:
        value = float(row["All classes: precision@1"])
        assert value == pytest.approx(table.loc[row["experiment"], "precision_at_1"])
        low = float(row["All classes: precision@1 low"])
        assert low == pytest.approx(table.loc[row["experiment"], "precision_at_1_low"])
    text = copied("latex")
    assert text.startswith("\\begin{tabular}{l" + "r" * (columns - 1))
    assert all(name.replace("_", "\\_") in text for name in names)


def test_link_keeps_the_view(visit, index):
    """Would catch a link that opens another view than the one it was copied from."""
    page = visit(index)
    page.locator("#experiments th[data-key=precision_drop_unseen_classes] button").click()
    page.locator("#experiments th[data-group=limited] button").click()
    page.locator("#table-search").fill("base epshn")
    page.locator("#table-ends").check()
    names, address = order(page), page.url
    assert "#table&" in address
    other = visit(address)
    assert order(other) == names
    assert other.locator("#table-search").input_value() == "base epshn"
    assert other.locator("#table-ends").is_checked()
    assert other.locator("#experiments th[data-group=limited] button").get_attribute("aria-expanded") == "true"  # fmt: skip
    head = other.locator("#experiments th[data-key=precision_drop_unseen_classes]")
    assert head.get_attribute("aria-sort") == "descending"


def test_phone_shows_cards(visit, index):
    """Would catch a table on a phone of which only names are visible."""
    page = visit(index, width=390, height=844)
    card = page.locator(ROW).first
    box = card.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    assert card.locator("td:visible").count() == 3
    assert card.locator(".phone:visible").count() == 3


def test_points_lead_to_rows(visit, index):
    """Would catch a point of the plot that leads nowhere, or without a name for screen readers."""
    page = visit(index)
    points = page.locator(".overview .point")
    assert points.count() == len(EXPERIMENTS)
    point = page.locator(".overview .point[data-of='ArcFace_base']")
    assert point.get_attribute("aria-label").startswith("ArcFace_base: precision@1 ")
    point.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "ArcFace_base"
