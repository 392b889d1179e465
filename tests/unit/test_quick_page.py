"""The page of `make quick`: its sentences follow the tables, and say where nothing can be concluded."""

import math
import re

import pandas as pd
import pytest
import yaml

from dmlstudy.evaluate.combinations import BOTH, KNOWN, SEEN, UNSEEN
from dmlstudy.evaluate.deductions import hundredths
from dmlstudy.pages.quick.findings import FEW, Findings, too_few, way_in_words
from dmlstudy.pages.quick.page import answers_text, commands, quick_page, training_file
from dmlstudy.pages.quick.sentences import answers, limits, naming

ONE, TWO = "frozen_resnet50", "frozen_mobilenet_v2"
BACKBONES = {ONE: "resnet50", TWO: "torchvision/mobilenet_v2"}
WAYS = ("nearest", "class_mean", "lda")
SIZES = ("0", "1", "2", "5", "10", "all")
# Accuracy of new classes by size of the two ways that matter; the others lie below.
CURVES = {
    (ONE, "lda"): (0, 0.05, 0.12, 0.3, 0.7, 0.9),
    (ONE, "class_mean"): (0, 0.4, 0.5, 0.73, 0.78, 0.8),
}


def accuracy(*, queries=100, classes=12, gap=0.05):
    """A table as combinations/accuracy.csv. LDA of ``ONE`` is best with all images, by ``gap`` or more."""
    pairs = [(experiment, way) for experiment in BACKBONES for way in WAYS]
    rows = []

    def add(figure, size, values):
        best = max(values, key=values.get)
        for (experiment, answer), value in values.items():
            difference = value - values[best]
            rows.append(
                {
                    "figure": figure,
                    "images_per_class": size,
                    "experiment": experiment,
                    "answer": answer,
                    "value": value,
                    "low": max(0, value - 0.03),
                    "high": value + 0.03,
                    "best": int((experiment, answer) == best),
                    "difference_to_best": difference,
                    "difference_to_best_low": difference - 0.02 if difference else 0,
                    "difference_to_best_high": difference + 0.02 if difference else 0,
                    "queries": queries,
                    "classes": classes,
                }
            )

    fallback = {pair: 0.5 - 0.01 * index for index, pair in enumerate(pairs)}
    for position, size in enumerate(SIZES):
        of_size = {pair: 0.6 * position / 5 * fallback[pair] for pair in pairs}
        add(UNSEEN, size, of_size | {pair: curve[position] for pair, curve in CURVES.items()})
    for figure, top in ((KNOWN, 0.88), (SEEN, 0.86), (BOTH, 0.879)):
        values = {**fallback, (ONE, "lda"): top, (ONE, "class_mean"): top - gap}
        add(figure, "all", values)
    return pd.DataFrame(rows)


def findings(*, auroc=0.8, copies=0, tables=None, **options):
    table = accuracy(**options) if tables is None else tables
    pairs = table[["experiment", "answer"]].drop_duplicates()
    told = pairs["answer"] == "nearest"
    strangers = pairs.assign(
        draws=5, auroc=auroc, auroc_least=auroc - 0.1, auroc_most=auroc + 0.1,
        called_unknown=told.map({True: 0.314, False: math.nan}), called_unknown_least=0.2,
        called_unknown_most=0.4, accepted_seen_classes=told.map({True: 0.951, False: math.nan}),
        accepted_seen_classes_least=0.9, accepted_seen_classes_most=0.99,
    )  # fmt: skip
    costs = pairs.assign(
        device="cpu", dimensions=2048, images=2000, seconds_of_features=124.4,
        milliseconds_a_photograph=62.2, seconds_to_fit=1.26, seconds_to_add_a_class=0.034,
        images_of_that_class=40, milliseconds_a_query=0.043,
    )  # fmt: skip
    facts = {
        "name": "birds",
        "results": "results/quick/birds",
        "configfiles": ["results/quick/birds/quick.yaml", "my own.yaml"],
        "features": [
            {"experiment": name, "backbone": backbone, "test_images": None}
            for name, backbone in BACKBONES.items()
        ],
        "seed": 42,
        "draws": 5,
        "unseen_classes": 6,
        "threads": 2,
        "training": {name: {"results_dir": "x", "baseline": name} for name in BACKBONES},
    }  # fmt: skip
    count = {"train": 1600, "test": 400, "classes": 40, "copies": copies}
    return Findings(table, strangers, costs, facts, count)


def text_of(found, name):
    (sentences,) = (sentences for key, _, sentences in answers(found) if key == name)
    return " ".join(sentences)


def test_answer_names_the_best_and_its_figures():
    """Would catch figures of another combination, of another table, or without their intervals."""
    text = text_of(findings(), "which")
    assert text.startswith(
        "The best is resnet50, answered by linear discriminant analysis: it names 86.0 % [83.0, 89.0] of"
    )
    assert "and 90.0 % [87.0, 93.0] of those of new classes" in text
    assert "known from the start, it names 88.0 % [85.0, 91.0]" in text
    # 0.05 with an interval of ± 0.02 is shown.
    assert "It is better than each of the 5 other combinations" in text
    assert (
        "the next is resnet50, answered by the nearest class mean (−5.0 points [−7.0, −3.0]" in text
    )


def test_what_cannot_be_told_apart_is_said():
    """Would catch a winner by a difference whose interval contains 0."""
    text = text_of(findings(gap=0.01), "which")
    assert "1 of the 5 other combinations cannot be told from it" in text
    assert "resnet50, answered by the nearest class mean (−1.0 points [−3.0, 1.0])" in text
    assert "better" not in text


def test_few_photographs_have_an_answer_of_their_own():
    """Would catch a recommendation for many photographs that fails with few."""
    text = text_of(findings(), "few")
    assert (
        f"With {FEW} photographs of each new class, resnet50, answered by the nearest class mean names 73.0 %"
        in text
    )
    assert "the combination above 30.0 % [27.0, 33.0]" in text
    assert "the nearest class mean serves better" in text


def test_curve_is_told_with_its_figures():
    """Would catch a number of photographs beside the accuracy of another number."""
    first, second = dict((key, found) for key, _, found in answers(findings()))["enrolment"]
    assert first.startswith(
        "With 1 photograph of each new class, resnet50, answered by the nearest class mean names 40.0 %"
    )
    assert "with 5, 73.0 % [70.0, 76.0]" in first
    assert "with all (about 40), 80.0 %" in first
    assert "reaches 90 % of the last figure is 5." in first
    assert "with 5, 30.0 %" in second
    assert "No smaller number reaches 90 % of the last figure: more photographs help." in second


def test_strangers_and_costs_are_told():
    """Would catch the share that is let in for the one that is told."""
    text = text_of(findings(), "strangers")
    assert "AUROC of 0.80 (mean of 5 draws of strangers, from 0.70 to 0.90)" in text
    assert (
        "95 % of the photographs of enrolled classes pass, 31.4 % of the strangers are called unknown"
        in text
    )
    assert "It let 95.1 % of the enrolled ones pass." in text
    text = text_of(findings(), "cost")
    assert "124 s for 2,000 photographs (cpu, 2 threads), 62 ms a photograph" in text
    assert (
        "less than 0.1 ms a photograph, fitting 1.3 s, adding a class of 40 photographs 34 ms"
        in text
    )


def test_too_few_photographs_give_no_conclusion():
    """Would catch a recommendation from three photographs."""
    found = findings(queries=3, classes=3)
    text = text_of(found, "which")
    assert text.startswith(
        "No combination can be recommended: the figures of new classes rest on 3 test"
    )
    assert "at least 30 of 5 classes" in text
    for name in ("few", "enrolment", "strangers"):
        assert "3 test photographs of 3 classes: too few for a conclusion" in text_of(
            found, name
        ), name
    assert "serves better" not in text_of(found, "few")
    assert quick_page(found, "").count("too few photographs for a conclusion") == 4


def test_classes_without_five_photographs_have_a_page():
    """Would catch a page that needs a size which small classes do not have."""
    table = accuracy()
    found = findings(tables=table[~table["images_per_class"].isin(["5", "10"])])
    assert "nothing was measured" in text_of(found, "few")
    assert "with 2, 12.0 %" in text_of(found, "enrolment")
    assert "5 photographs enrolled" not in quick_page(found, "")


def test_without_strangers_nothing_is_said_of_them():
    """Would catch NaN in a sentence."""
    found = findings(auroc=math.nan)
    assert (
        text_of(found, "strangers")
        == "There is no test photograph of a stranger, so nothing can be said."
    )


def test_limits_are_told():
    """Would catch copies, or test photographs that a network has seen, which nobody hears of."""
    text = " ".join(limits(findings()))
    assert "6 classes of 40 played the new ones" in text
    assert "in 5 draws; 400 photographs were tested, 1,600 were compared with" in text
    assert "The best of 6 combinations was found on the same test photographs" in text
    assert "both among" not in text
    found = findings(copies=3)
    found.facts["features"][1]["test_images"] = "likely"
    text = " ".join(limits(found))
    assert "3 files stand both among the tested photographs" in text
    assert "torchvision/mobilenet_v2: its training data hold (likely)" in text


def test_every_share_of_the_page_stands_in_a_table():
    """Would catch a page that computes, or rounds twice."""
    found = findings()
    page = quick_page(found, "")
    tables = [found.accuracy, found.strangers]
    numbers = [
        value for table in tables for value in table.select_dtypes("number").to_numpy().ravel()
    ]
    known = {hundredths(value) for value in numbers if value == value}
    body = (
        page[page.index('<main id="content">') : page.index("<figure")]
        + page[page.index("</figure>") :]
    )
    body = body[: body.index("</main>")]
    shown = re.findall(
        r"(?<![\w.])(−?\d+\.\d)(?: %| points)?(?![\w.])",
        re.sub(r"<pre.*?</pre>|data-value=\"[^\"]*\"|style=\"[^\"]*\"", "", body, flags=re.S),
    )
    # Times, and what guessing gives.
    times = {"0.5", "1.3", "0.1"}
    assert len(shown) > 100
    assert {one for one in shown if one not in times} <= known
    for row in found.rows(BOTH):
        assert f'data-value="{row["value"]}"' in page


def test_commands_use_the_best_features_and_all_configurations():
    """Would catch a command of another run, or one without the file of the user."""
    found = findings()
    (_, index), (_, naming), (_, enrolling) = commands(found, found.best())
    run = "results/quick/birds/experiments/frozen_resnet50/seed42/all_classes"
    assert (
        f"snakemake --cores all {run}/index --configfile results/quick/birds/quick.yaml 'my own.yaml'"
        in index
    )
    assert f"--run {run} " in naming
    assert f"--run {run} " in enrolling
    best = found.best()
    assert best["answer"] != "nearest"
    assert f" --answer {best['answer']} photo.jpg" in naming
    assert "--answer" not in commands(found, best | {"answer": "nearest"})[1][1]
    assert yaml.safe_load(training_file(found))["baseline"] == ONE


def test_page_says_what_the_programs_answer_by():
    """Would catch the accuracy of another way beside a command that answers by the nearest photograph."""
    table = accuracy()
    text = naming(findings(tables=table))
    row = table[(table["experiment"] == ONE) & (table["answer"] == "nearest")]
    for figure in (SEEN, UNSEEN):
        own = row[(row["figure"] == figure) & (row["images_per_class"] == "all")]["value"].iat[0]
        assert f"{hundredths(own)} % [" in text
    assert (
        "name_photos.py answers by the nearest photograph. With the best features, resnet50" in text
    )
    one = table[(table["experiment"] == ONE) & (table["answer"] == "nearest")].assign(best=1)
    assert "which is the best way here" in naming(findings(tables=one))


def test_names_are_escaped_and_unknown_ways_have_words():
    """Would catch a folder whose name is markup, and a new way without a name."""
    found = findings()
    found.facts["name"] = "<script>alert(1)</script>"
    page = quick_page(found, "")
    assert "<script>alert(1)" not in page
    assert way_in_words("new_way (k=5)") == "new way (k=5)"
    assert way_in_words("weighted_neighbours (k=5)").endswith("of the nearest photographs (k=5)")


def test_text_for_the_terminal_has_all_answers():
    """Would catch an answer that only the page has."""
    found = findings()
    text = answers_text(found, "results/quick/birds/index.html")
    for _, question, sentences in answers(found):
        assert question in text
        assert all(sentence in text for sentence in sentences)
    assert text.endswith("The page: results/quick/birds/index.html\n")


def test_one_combination_has_a_page():
    """Would catch a comparison of one with nothing."""
    table = accuracy()
    one = table[(table["experiment"] == ONE) & (table["answer"] == "nearest")].assign(best=1)
    text = text_of(findings(tables=one), "which")
    assert "There is no other combination to compare it with." in text
    assert not too_few(findings(tables=one).best())


@pytest.mark.pages
@pytest.mark.parametrize("width", [390, 1440])
def test_page_fits_a_telephone_and_a_screen(visit, tmp_path, width):
    """Would catch a page that is wider than the screen, or a chart that stays empty."""
    path = tmp_path / "index.html"
    path.write_text(quick_page(findings(), ""), encoding="utf-8")
    page = visit(path, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("figure.chart .main-svg").count() >= 1
    traces = page.evaluate("document.querySelector('figure.chart .plot').data.map(one => one.y)")
    assert traces[2] == [0.05, 0.12, 0.3, 0.7, 0.9]
    assert page.locator("#matrix td.best").count() == 1
    page.locator("input[data-search=combinations]").fill("resnet50 class mean")
    assert page.locator("#combinations tbody tr:visible").count() == 1
