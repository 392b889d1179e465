"""Snakemake's report: its content, and whether its links work once it is unpacked."""

import html
import re
import zipfile

import pytest
from shown_numbers import as_is, expected, rows_of, share, tables_of, words, wrong_cells

EXPERIMENTS = 5
LOCALISED = "EPSHN_cosine_resnet18_sgd_aug"


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
    for said in ("precision@1 of n = 13 test images", "a gallery of 23 training images of all 6"):
        assert captions.count(said) == len(names)


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


@pytest.mark.pages
def test_localisation_shows_its_numbers(visit, finished):
    """Would catch a map's share of heat in another row, or a conclusion that its numbers do not carry."""
    folder = finished.result(f"experiments/{LOCALISED}")
    rows = rows_of(folder / "seed42" / "heatmaps" / "localisation.csv")
    page = visit(folder / "report.html")
    wanted = expected(
        rows,
        *(words("map"), share("share_in_box"), share("pointing_accuracy")),
        *(as_is("queries"), as_is("maps_without_heat")),
    )
    assert wrong_cells(tables_of(page)["localisation"], wanted, ordered=True) == []
    said = page.get_by_text("Where does the model of all classes look?").locator("..").inner_text()
    own, uniform = (
        next(row for row in rows if row["map"] == name) for name in ("all_classes", "uniform")
    )
    for row in (own, uniform):
        value, ends = share("share_in_box")(row).split("|")
        assert f"{value} % [{ends.replace(' to ', ', ')}]" in said
    apart = float(own["share_in_box_low"]) > float(uniform["share_in_box_high"])
    assert ("More than a uniform map" in said) == apart
