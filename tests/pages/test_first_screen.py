"""What a reader sees first, on three screens and in both colours; and whether everybody can use it."""

import pandas as pd
import pytest
from barriers import serious_barriers

from dmlstudy.evaluate.deductions import hundredths

pytestmark = pytest.mark.pages

SCREENS = [(1440, 900), (1024, 768), (390, 844)]
# Rendered text and its size in pixels, where it is smaller than 12.
SMALL = """() => {
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.textContent.trim() || ["SCRIPT", "STYLE", "OPTION"].includes(parent.tagName)) continue;
    const size = parseFloat(getComputedStyle(parent).fontSize);
    if (parent.checkVisibility() && size < 12) found.push([size, node.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_first_screen_answers(visit, report, index, width, height, colours):
    """Would catch an answer below the fold, a page wider than the screen, small text, or a barrier."""
    for path in (index, report):
        page = visit(path, width=width, height=height, colours=colours)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".answer .said").count() == 5
        below = page.evaluate(
            "[...document.querySelectorAll('.answer .said, .answer .figure')].map(one => one.getBoundingClientRect().bottom)"
        )
        assert max(below) <= height
        assert page.evaluate(SMALL) == []
        assert serious_barriers(page) == []


def test_answers_are_those_of_the_tables(visit, study, index):
    """Would catch a figure on the first screen that is not the table's."""
    page = visit(index)
    metrics = pd.read_csv(study.folder / "comparison" / "metrics.csv")
    metrics = metrics.set_index(["experiment", "metric"])
    drop = metrics.loc["EPSHN_base", "precision_drop_unseen_classes"]
    answer = page.locator("#answer-2")
    assert answer.locator(".figure").inner_text() == f"{hundredths(drop['value'])} points"
    ends = f"[{hundredths(drop['low'])}, {hundredths(drop['high'])}]"
    assert answer.locator(".interval").inner_text() == ends
    assert ends in answer.locator(".said").inner_text()
    # Where nothing can be concluded, what would be needed is said.
    assert drop["low"] <= 0 <= drop["high"]
    assert "unseen classes" in answer.locator(".needed").inner_text()


def test_report_compares_as_the_tables_do(visit, study, report):
    """Would catch a difference on an experiment's page that differs from the comparison's."""
    page = visit(report)
    table = pd.read_csv(study.folder / "comparison" / "differences.csv")
    table = table[(table["experiment"] == "EPSHN_base+1dBN") & (table["role"] == "like")]
    rows = table.set_index("metric")
    shown = [" ".join(text.split()) for text in page.locator(".other .text").all_inner_texts()]
    assert len(shown) == 3
    for metric, text in zip(
        (
            "precision_at_1",
            "limited_precision_at_1_unseen_classes",
            "precision_drop_unseen_classes",
        ),
        shown,
        strict=True,
    ):
        row = rows.loc[metric]
        assert f"[{hundredths(row['low'])}, {hundredths(row['high'])}]" in text
        assert hundredths(row["difference"]) in text


def test_outline_marks_the_place(visit, index):
    """Would catch an outline that stays at the first section, or is out of sight further down."""
    page = visit(index)
    mark = page.locator("nav a[aria-current]")
    assert mark.inner_text() == "Answers"
    page.get_by_role("link", name="Rejection", exact=True).click()
    page.wait_for_function("document.querySelector('nav a[aria-current]')?.hash === '#rejection'")
    assert page.locator("nav").evaluate("nav => nav.getBoundingClientRect().top") == 0


def test_every_control_is_reached_by_keyboard_and_shows_it(visit, index):
    """Would catch a control without focus, or one whose focus cannot be seen."""
    page = visit(index)
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        one = page.evaluate(
            "() => { const one = document.activeElement, style = getComputedStyle(one);"
            " return [one.id || one.dataset.copy || one.className || one.textContent.trim(), style.outlineStyle, parseFloat(style.outlineWidth)]; }"
        )
        assert one[1] != "none", one
        assert one[2] >= 2, one
        seen.add(one[0])
    assert {"table-search", "table-kind", "table-ends", "markdown", "csv", "latex", "link"} <= seen
    assert "open-row" in seen
