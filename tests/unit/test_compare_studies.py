"""Several studies side by side: which rows are matched, what counts, what is concluded."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_results_page as results_page
from test_pooling import by_hand

from dmlstudy.core.files import StudyError
from dmlstudy.pages.results.kept import KeptStudy
from dmlstudy.pages.results.study import UNTRAINED
from dmlstudy.pages.studies.conclusions import compared
from dmlstudy.pages.studies.page import page

PROJECT = Path(__file__).resolve().parents[2]
LEADING, CLASSIFIER, START = results_page.LEADING, results_page.CLASSIFIER, results_page.START
TRAINING = "trained minus untrained"


def study(name, training=0.2, *, half=0.02, against=0.1, change=lambda about: None, data=None):
    """A kept study of its own data set, with a difference to the untrained features and to the baseline."""
    about = results_page.facts(name=data or f"birds_{name}")
    change(about)
    tables = results_page.tables()
    rows = [
        results_page.difference(LEADING, START, UNTRAINED, training, half),
        results_page.difference(CLASSIFIER, LEADING, "baseline", -against, half),
    ]
    tables["differences"] = pd.DataFrame(rows)
    return KeptStudy(about, tables, name=name)


def of(table, question, experiment=LEADING):
    found = table[(table["question"] == question) & (table["experiment"] == experiment)]
    return found.to_dict("records")


def test_mean_is_that_of_the_matched_studies():
    """Would catch a study that is left out or counted twice, or an error that is not the interval's."""
    values, halves = [0.2, 0.1, 0.25], [0.02, 0.03, 0.05]
    studies = [
        study(name, value, half=half)
        for name, value, half in zip("abc", values, halves, strict=True)
    ]
    rows, conclusions = compared(studies)
    (found,) = of(conclusions, TRAINING)
    mean, interval, normal, tau2, laird, share = by_hand(values, [h / 1.959964 for h in halves])
    assert (found["k"], found["studies"], found["above_0"]) == (3, "a, b, c", 3)
    assert found["mean"] == pytest.approx(mean, abs=1e-5)
    assert (found["low"], found["high"]) == pytest.approx(interval, abs=1e-4)
    assert (found["normal_low"], found["normal_high"]) == pytest.approx(normal, abs=1e-4)
    assert (found["tau2"], found["tau2_dl"]) == pytest.approx((tau2, laird), abs=1e-5)
    assert found["i2"] == pytest.approx(share, abs=1e-4)
    (drop,) = of(conclusions, "drop on unseen classes")
    assert (drop["k"], drop["mean"]) == (3, pytest.approx(0.1))
    # The rows that were put in, none lost.
    assert [row["value"] for row in of(rows, TRAINING)] == values


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ([0.2, 0.21, 0.19], "above 0"),
        ([-0.2, -0.21, -0.19], "below 0"),
        ([0.2, -0.2, 0.01], "not shown"),
        # Both studies show it; with one degree of freedom the mean does not.
        ([0.2, 0.1], "not shown"),
    ],
)
def test_answer_over_all_is_that_of_the_mean(values, answer):
    """Would catch a conclusion that every study, or two studies, are said to prove."""
    _, conclusions = compared(
        [study(name, value) for name, value in zip("abc", values, strict=False)]
    )
    assert of(conclusions, TRAINING)[0]["answer"] == answer


def test_other_recipes_are_left_out_with_the_reason():
    """Would catch a mean over two experiments of one name, and a row that vanishes silently."""

    def epochs(about):
        about["experiments"][LEADING]["recipe"]["epochs"] = 9

    def weights(about):
        about["experiments"][START]["weights"] = "other weights"

    rows, conclusions = compared(
        [study("a"), study("b", change=epochs), study("c", change=weights), study("d")]
    )
    (found,) = of(conclusions, TRAINING)
    assert found["studies"] == "a, d"
    remarks = {row["study"]: row["remark"] for row in of(rows, TRAINING)}
    assert remarks["b"] == "metric: epochs: 9 instead of 4"
    # The partner of a difference counts, too; the experiment alone is the same.
    assert "starting weights: other weights instead of ImageNet" in remarks["c"]
    assert of(conclusions, "drop on unseen classes")[0]["studies"] == "a, c, d"


def test_what_only_says_how_it_was_computed_does_not_matter():
    """Would catch two machines that are taken for two recipes, and chosen values that must be equal."""

    def elsewhere(about):
        recipe = about["experiments"][LEADING]["recipe"]
        recipe |= {"compute_threads": 8, "device": "cuda", "optimizer": {"kind": "sgd", "lr": 0.5}}
        recipe["initializer"] = "other name"

    def chosen(value):
        def change(about):
            elsewhere(about)
            about["experiments"][LEADING]["recipe"]["optimizer"] = {"kind": "sgd", "lr": value}
            about["experiments"][LEADING]["selected"] = {"optimizer.lr": value}

        return change

    _, conclusions = compared([study("a", change=chosen(0.5)), study("b", change=chosen(0.1))])
    assert of(conclusions, TRAINING)[0]["k"] == 2
    rows, conclusions = compared([study("a"), study("b", change=elsewhere)])
    assert of(conclusions, TRAINING)[0]["k"] == 1
    assert "learning rate: 0.5 instead of 0.001" in of(rows, TRAINING)[1]["remark"]


def test_missing_rows_are_named():
    """Would catch an experiment of one study that is taken for one of all."""

    def without(about):
        about["experiments"]["another"] = copy.deepcopy(about["experiments"][LEADING])

    other = study("b", change=without)
    other.tables["experiments"] = pd.concat(
        [other.tables["experiments"], pd.DataFrame([{"experiment": "another"}])]
    )
    other.tables["metrics"] = pd.concat(
        [
            other.tables["metrics"],
            pd.DataFrame(
                [
                    {
                        "experiment": "another",
                        "metric": "precision_drop_unseen_classes",
                        "value": 0.3,
                        "low": 0.2,
                        "high": 0.4,
                    }
                ]
            ),
        ]
    )
    rows, conclusions = compared([study("a"), other])
    (found,) = of(conclusions, "drop on unseen classes", "another")
    assert (found["k"], found["answer"], np.isnan(found["low"])) == (1, "not shown", True)
    remarks = [row["remark"] for row in of(rows, "drop on unseen classes", "another")]
    assert sorted(remarks) == ["", "has no another"]


def test_same_data_twice_is_refused():
    """Would catch one set of photographs that counts as two."""
    with pytest.raises(StudyError, match="a and b have the same data set"):
        compared([study("a", data="cub"), study("b", data="cub")])
    with pytest.raises(StudyError, match="the same name"):
        compared([study("a"), study("a", data="cub")])
    with pytest.raises(StudyError, match="no study"):
        compared([])


@pytest.mark.parametrize(
    ("names", "words"),
    [("a", "k = 1: one study says nothing"), ("ab", "k = 2: little can be said"), ("abc", "k = 3")],
)
def test_page_says_how_little_few_studies_tell(names, words):
    """Would catch a mean without its number of studies or a warning, or names that are not escaped."""
    studies = [study(name) for name in names]
    studies[0].about["dataset"]["name"] = "<b>birds</b>"
    html = page(studies, *compared(studies))
    body = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert words in body
    assert "<b>birds" not in body
    assert body.count(f"k = {len(names)}") >= 5
    assert not re.search(r"(src|href)=\"http", body)


def test_program_writes_tables_and_page(tmp_path):
    """Would catch a program that does not start, tables without rows, and a message that is a traceback."""
    for name, value in (("one", 0.2), ("two", 0.1)):
        folder = results_page.stored(tmp_path / name, results_page.facts(name=name), training=value)
        assert folder.is_dir()
    program = PROJECT / "workflow" / "scripts" / "compare_studies.py"

    def run(*arguments):
        command = [sys.executable, program, *arguments, "--out", tmp_path / "out"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run(tmp_path / "one", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert "trained minus untrained, metric (net, start): 2 of 2 above 0" in done.stdout
    table = pd.read_csv(tmp_path / "out" / "conclusions.csv")
    (found,) = of(table, TRAINING)
    assert (found["k"], found["mean"]) == (2, pytest.approx(0.15, abs=1e-3))
    assert len(of(pd.read_csv(tmp_path / "out" / "studies.csv"), TRAINING)) == 2
    assert (tmp_path / "out" / "index.html").stat().st_size > 10_000
    done = run(tmp_path / "nowhere")
    assert done.returncode == 1
    assert "nowhere: no finished study" in done.stderr
    assert "Traceback" not in done.stderr
