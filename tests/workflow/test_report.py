"""Snakemake's report: its content, and whether its links work once it is unpacked."""

import html
import re
import zipfile

import pytest

EXPERIMENTS = 5


@pytest.fixture(scope="module")
def unpacked(finished, tmp_path_factory):
    """The folder of the unpacked report of the finished study."""
    folder = tmp_path_factory.mktemp("report")
    finished.snakemake("--report", str(folder / "report.zip"), cores=1)
    with zipfile.ZipFile(folder / "report.zip") as archive:
        archive.extractall(folder)
    return next(
        path.parent for path in folder.rglob("report.html") if (path.parent / "data").is_dir()
    )


def test_report_holds_tables_plots_and_pages(unpacked):
    """Would catch missing tables or pages, or captions that do not say what is measured."""
    names = [path.name for path in (unpacked / "data" / "raw").rglob("*") if path.is_file()]
    assert names.count("report.html") == EXPERIMENTS
    assert names.count("summary.csv") == EXPERIMENTS
    assert names.count("metrics.csv") == 1
    for name in (
        "index.html",
        "experiments.csv",
        "costs.csv",
        "health.csv",
        "plot_drop.html",
        "plot_curves.html",
    ):
        assert names.count(name) == 1
    text = html.unescape((unpacked / "report.html").read_text(encoding="utf-8"))
    # The report's menu is sorted by name.
    for category in ("1. Answers", "2. Tables", "3. Pages"):
        assert category in text
    captions = re.sub(r"(\\n|\s)+", " ", html.unescape(text))
    for words in ("precision@1 of n = 13 test images", "a gallery of 23 training images of all 6"):
        assert captions.count(words) == len(names)


def test_links_of_the_unpacked_report_lead_to_files(unpacked):
    """Would catch links between pages that only work in the results folder."""
    index = next((unpacked / "data" / "raw").rglob("index.html"))
    links = re.findall(r'data-in-report="([^"]+)"', index.read_text(encoding="utf-8"))
    assert len(links) == EXPERIMENTS
    for link in links:
        page = (index.parent / link).resolve()
        assert page.is_file()
        (back,) = re.findall(r'data-in-report="([^"]+)"', page.read_text(encoding="utf-8"))
        assert (page.parent / back).resolve() == index.resolve()


@pytest.mark.pages
def test_links_of_the_unpacked_report_work_in_a_browser(unpacked, visit):
    """Would catch pages that do not detect that they are in a report."""
    page = visit(next((unpacked / "data" / "raw").rglob("index.html")))
    page.get_by_role("link", name="EPSHN_cosine_resnet18+1dBN_sgd_aug", exact=True).click()
    page.wait_for_url("**/report.html")
    assert page.title() == "EPSHN_cosine_resnet18+1dBN_sgd_aug"
    page.get_by_role("link", name="All experiments").click()
    page.wait_for_url("**/index.html")
