"""Photographs on pages: what they say, what a click does, and copies."""

import pandas as pd
import pytest

pytestmark = pytest.mark.pages


def test_every_photograph_says_class_part_and_file(visit, study, report, index):
    """Would catch a photograph without its class, its part or its file, or with those of another."""
    manifest = pd.read_csv(study.data / "manifest.csv", keep_default_na=False).set_index("path")
    parts = pd.read_csv(study.data / "split.csv").set_index("image_id")["part"]
    for path in (report, index):
        said = visit(path).evaluate(
            "[...document.querySelectorAll('button.enlarge')].map(one => one.dataset.about)"
        )
        assert said
        for text in said:
            name, part, file = text.rsplit(" · ", 2)
            row = manifest.loc[file]
            assert row["class_name"] == name
            assert part == ("test image" if parts[row["image_id"]] == "test" else "training image")


def test_click_enlarges(visit, report):
    """Would catch a dialog with another photograph, or one that the keyboard cannot open and close."""
    page = visit(report)
    button = page.locator("#neighbours button.enlarge").first
    button.press("Enter")
    dialog = page.locator("#enlarged")
    assert dialog.locator("p").inner_text() == button.get_attribute("data-about")
    assert dialog.locator("img").get_attribute("src") == button.locator("img").get_attribute("src")
    assert dialog.locator("img").bounding_box()["width"] > 2 * button.bounding_box()["width"]
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
