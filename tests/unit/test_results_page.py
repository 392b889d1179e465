"""The documentation's results: sentences, pictures and differences follow from the kept tables."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pandas as pd
import pytest
import write_results
from configurations import PUBLISHED, describe

from dmlstudy.core.files import StudyError
from dmlstudy.data.dataset import write_csv
from dmlstudy.pages.main_table import main_table
from dmlstudy.pages.results import cards, keeping, limits, page, pictures, sentences
from dmlstudy.pages.results.against import against
from dmlstudy.pages.results.kept import ABOUT, TABLES, KeptStudy, authority, kept_studies
from dmlstudy.pages.results.protocol import Published
from dmlstudy.pages.results.study import UNSEEN, UNTRAINED, Study
from dmlstudy.plan import configuration, planning
from dmlstudy.plan.sources import read_yaml

PROJECT = Path(__file__).resolve().parents[2]
LEADING, CLASSIFIER, START = "metric", "classifier", "net, start"
PUBLISHED_STUDY = Published.read(PROJECT / "config")
README = f"# Study\n\n{page.BEGIN}\nold\n{page.END}\n\nend\n"


def interval(value, half=0.02):
    return {"value": value, "low": round(value - half, 6), "high": round(value + half, 6)}


def recipe(epochs=4, **values):
    """A complete recipe: that of the published baseline, or for none of an untrained row."""
    base = PUBLISHED_STUDY.recipes["EPSHN_cosine_resnet18_sgd_aug"]
    return {**base, "compute_threads": 1, "image_size": 96, "epochs": epochs, **values}


def facts(**dataset):
    """A study.json: one metric loss, a classifier, and the features that they started from."""
    entries = {
        LEADING: recipe(),
        CLASSIFIER: recipe(head={"kind": "none"}, loss={"kind": "crossentropy"}),
        START: recipe(0, head={"kind": "none"}),
    }
    experiments = {}
    for name, one in entries.items():
        like, changes = PUBLISHED_STUDY.changes([name], one, "ImageNet (`net.pth`)")
        experiments[name] = {
            "details": name,
            "untrained": name == START,
            "recipe": one,
            "selected": {},
            "weights": "ImageNet (`net.pth`)",
            "like": like,
            "changes": changes,
        }
    return {
        "dataset": {
            "name": "birds",
            "format": "folders",
            "source": "local files in the format folders",
            "drawn": False,
            "published": True,
            "classes": 200,
            "gallery": 9430,
            "queries": 2358,
            "unseen_classes": 20,
            "unseen_draws": 1,
            **dataset,
        },
        "seeds": [42],
        "baseline": LEADING,
        "selection_seconds": 0,
        "protocol": [],
        "published_experiments": 16,
        "missing": [],
        "experiments": experiments,
    }


def difference(name, other, role, value, half=0.02, metric="precision_at_1"):
    found = interval(value, half)
    return {
        "experiment": name,
        "compared_with": other,
        "role": role,
        "metric": metric,
        "difference": found.pop("value"),
        **found,
        "p_holm": 0.001,
        "queries": 2358,
        "seeds": 1,
        "seeds_low": float("nan"),
        "seeds_high": float("nan"),
    }


def tables(*, against=0.1, drop=0.1, training=0.2, auroc=0.8, enrolled=(0.2, 0.4, 0.5)):
    """The tables of such a study. ``against``: precision@1 minus the softmax; ``training``: minus before."""
    values = {
        LEADING: {"precision_at_1": 0.5 + against, "precision_drop_unseen_classes": drop},
        CLASSIFIER: {"precision_at_1": 0.45, "precision_drop_unseen_classes": 0.2},
        START: {"precision_at_1": 0.5 + against - training, "precision_drop_unseen_classes": 0.0},
    }
    shared = {
        "limited_precision_at_1_unseen_classes": 0.4,
        "all_classes_precision_at_1_unseen_classes": 0.4 + drop,
    }
    metrics = [
        {"experiment": name, "metric": metric, **interval(value)}
        for name, own in values.items()
        for metric, value in {**shared, **own}.items()
    ]
    metrics.append({"experiment": CLASSIFIER, "metric": "softmax_accuracy", **interval(0.5)})
    runs = [(name, kind) for name in values for kind in ("all_classes", "limited_classes")]
    return {
        "metrics": pd.DataFrame(metrics),
        "experiments": pd.DataFrame(
            {
                "experiment": name,
                "precision_at_1": own["precision_at_1"],
                "published_verdict": "not comparable",
            }
            for name, own in values.items()
        ),
        "differences": pd.DataFrame(
            [
                difference(LEADING, CLASSIFIER, "classifier", against),
                difference(CLASSIFIER, CLASSIFIER, "classifier", -0.05),
                difference(LEADING, START, "untrained", training),
            ]
        ),
        "enrolment": pd.DataFrame(
            {
                "experiment": name,
                "class_set": "limited_classes",
                "model": "limited_classes",
                "images_per_class": images,
                "method": "nearest_neighbour",
                "unseen_accuracy": value,
                "low": value - 0.02,
                "high": value + 0.02,
            }
            for name in values
            for images, value in zip((0, 1, 5, "all"), (0, *enrolled), strict=True)
        ),
        "rejection": pd.DataFrame(
            {
                "experiment": name,
                "class_set": "limited_classes",
                "model": "limited_classes",
                "auroc": auroc,
                "auroc_low": auroc - 0.05,
                "auroc_high": auroc + 0.05,
                "false_positive_rate_at_95_tpr": 0.7,
            }
            for name in values
        ),
        "curves": pd.DataFrame(
            {"experiment": name, "seed": 42, "class_set": kind, "epoch": epoch, "test_accuracy": at}
            for name, kind in runs
            for epoch, at in enumerate((0.3, 0.4, 0.2))
        ),
        "costs": pd.DataFrame(
            {
                "experiment": name,
                "seed": 42,
                "class_set": kind,
                "device": "cpu",
                "train_seconds": 0.0 if name == START else 600.0,
            }
            for name, kind in runs
        ),
    }


def kept(about=None, **values):
    return KeptStudy(about or facts(), tables(**values), name="cub")


def stored(folder, about=None, **values):
    """Such a study, written as `make results ADD=…` writes it."""
    folder.mkdir(parents=True)
    (folder / ABOUT).write_text(json.dumps(about or facts()))
    for name, table in tables(**values).items():
        write_csv(folder / f"{name}.csv", table)
    return folder


@pytest.fixture
def project(tmp_path):
    """A project with a README and one kept study."""
    stored(tmp_path / "docs" / "results" / "cub")
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def write_all(project):
    for path, text in write_results.written(project).items():
        path.write_text(text)


def texts(project):
    files = (path for path in project.rglob("*") if path.suffix in (".md", ".svg"))
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in files}


# Sentences.


@pytest.mark.parametrize(
    ("values", "say", "words"),
    [
        ({"against": 0.1}, sentences.classifies, "Yes: `metric` is better than the softmax"),
        ({"against": -0.1}, sentences.classifies, "No: `metric` is worse than the softmax"),
        (
            {"against": 0.01},
            sentences.classifies,
            "No difference is shown: the interval contains 0. That is not proof that both are equal",
        ),
        ({"drop": 0.1}, sentences.added_classes, "training costs 10.0 points [8.0, 12.0]"),
        (
            {"drop": 0.01},
            sentences.added_classes,
            "is shown: the drop on them is 1.0 points [−1.0, 3.0], and the interval contains 0",
        ),
        ({"drop": -0.1}, sentences.added_classes, "costs nothing: the model that was not trained"),
        ({}, sentences.enrolled, "names 20.0 % [18.0, 22.0] of the test images"),
        ({}, sentences.enrolled, "; with 5, 40.0 % [38.0, 42.0] and with all, 50.0 %"),
        (
            {},
            sentences.enrolled,
            "All of them (about 47 of a class): no smaller number gives 90 % of",
        ),
        (
            {"enrolled": (0.2, 0.48, 0.5)},
            sentences.enrolled,
            "5 of each unseen class: the smallest number",
        ),
        ({"auroc": 0.8}, sentences.knows_unknown, "AUROC of 0.800 [0.750, 0.850]"),
        (
            {"auroc": 0.52},
            sentences.knows_unknown,
            "Not shown: an AUROC of 0.520 [0.470, 0.570]; the interval contains 0.5",
        ),
        ({"auroc": 0.3}, sentences.knows_unknown, "No, it is worse than guessing"),
        ({}, sentences.time_spent, "took 10.0 minutes (4 epochs; cpu, 1 thread a job). All 4"),
        ({"training": 0.2}, sentences.beats_untrained, "Yes: `metric` is better than the features"),
        ({"training": -0.2}, sentences.beats_untrained, "Training made the features worse in"),
        ({"training": 0.01}, sentences.beats_untrained, "No difference is shown"),
        ({}, sentences.which, "Seed 42; birds: 200 classes, 9,430 photographs in the gallery"),
    ],
)
def test_sentence_follows_from_the_tables(values, say, words):
    """Would catch a conclusion against its interval, or a figure that is not the table's."""
    assert words in " ".join(say(kept(**values)))


def test_readme_warns_of_a_training_that_made_features_worse():
    """Would catch an answer at the top of the README that hides a failed training."""
    assert "Training made the features worse: −20.0 points" in page.readme_block(
        [kept(training=-0.2)]
    )
    assert "worse" not in page.readme_block([kept(training=0.2)])
    # Not shown is not worse.
    assert "worse" not in page.readme_block([kept(training=-0.01)])


def test_sentences_do_not_speak_of_the_best_model():
    """Would catch a headline about the experiment with the luckiest test answers."""
    study = kept()
    study.tables["metrics"].loc[
        lambda table: (table["experiment"] == CLASSIFIER) & (table["metric"] == "precision_at_1"),
        "value",
    ] = 0.99
    assert study.leading == LEADING
    about = facts()
    # A classifier as the baseline has no metric loss: the first with one leads.
    about["baseline"] = CLASSIFIER
    assert kept(about).leading == LEADING


@pytest.mark.parametrize(
    ("gain", "words", "of_both"),
    [
        (-0.05, "it is worse than those features: −5.0 points [−7.0, −3.0]", (0, 2, 0)),
        (0.05, "it is better than those features: +5.0 points [3.0, 7.0]", (1, 1, 0)),
        (0.01, "no difference is shown: +1.0 points [−1.0, 3.0]", (0, 1, 1)),
    ],
)
def test_gain_of_training_is_also_told_of_unseen_classes(gain, words, of_both):
    """Would catch a training that helps the classes it saw and is praised for all."""
    study = kept()
    table = study.tables["differences"]
    rows = [
        difference(name, START, UNTRAINED, value, metric=UNSEEN)
        for name, value in ((LEADING, gain), (CLASSIFIER, -0.2))
    ]
    rows.append(difference(CLASSIFIER, START, UNTRAINED, 0.1))
    study.tables["differences"] = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    said = sentences.beats_untrained(study)
    assert said[0].startswith("Yes: `metric` is better than the features")
    assert f"On the classes that `metric` was not trained on, {words}." in said
    assert said[-1].startswith("Of 2 models, ")
    assert tuple(map(int, re.findall(r"(\d) (?:is|are|no)", said[-1]))) == of_both


def test_one_seed_speaks_of_models():
    """Would catch a sentence about methods that one seed does not support."""
    one, several = kept(), kept({**facts(), "seeds": [42, 43, 44]})
    assert "between these two trained models" in " ".join(limits.limits(one))
    assert "these two trained models" not in " ".join(limits.limits(several))
    assert "One seed" in page.readme_block([one])
    assert "One seed" not in page.readme_block([several])


def test_mean_over_several_runs_has_no_interval():
    """Would catch the interval of the first run beside a mean over all."""
    study = kept()
    table = study.tables["rejection"]
    other = table.assign(class_set="limited_classes_1", model="limited_classes_1", auroc=0.6)
    study.tables["rejection"] = pd.concat([table, other])
    assert "AUROC of 0.700," in " ".join(sentences.knows_unknown(study))


def test_study_without_a_classifier_says_so():
    """Would catch a page that fails, or an answer without the row that it compares with."""
    about = facts()
    del about["experiments"][CLASSIFIER]
    study = kept(about)
    for name, table in study.tables.items():
        study.tables[name] = table[table["experiment"] != CLASSIFIER]
    study.tables["differences"] = study.tables["differences"].iloc[2:]
    assert "no pair of a metric loss and a classical classifier" in page.page([study])
    assert pictures.pictures(study)["answer.svg"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.1, "It is better than the baseline by +10.0 points [8.0, 12.0]"),
        (0.01, "is not shown: +1.0 points [−1.0, 3.0], and the interval contains 0"),
    ],
)
def test_best_on_unseen_classes_is_named_with_its_difference(value, words):
    """Would catch a best experiment that is called better without an interval, or one of another metric."""
    study = kept()
    metrics = study.tables["metrics"]
    metric = "limited_precision_at_1_unseen_classes"
    own = (metrics["experiment"] == CLASSIFIER) & (metrics["metric"] == metric)
    assert own.sum() == 1
    metrics.loc[own, ["value", "low", "high"]] = [0.4 + value, 0.38 + value, 0.42 + value]
    row = difference(CLASSIFIER, LEADING, "baseline", value, metric=metric)
    study.tables["differences"] = pd.concat([study.tables["differences"], pd.DataFrame([row])])
    said = " ".join(sentences.best_unseen(study))
    assert said.startswith(f"The best names {100 * (0.4 + value):.1f} %")
    assert f"`{CLASSIFIER}`" in said
    assert words in said
    assert "chosen by the images that it is judged by" in said


# What pages show first.


@pytest.mark.parametrize(
    ("seconds", "unit", "text"), [(5.6, "s", "5.6"), (600.0, "s", "600.0"), (840.0, "min", "14.0")]
)
def test_times_of_trainings_have_one_unit(seconds, unit, text):
    """Would catch minutes that are called seconds, and trainings of seconds that all take "0.1 min"."""
    study = kept()
    costs = study.tables["costs"]
    costs.loc[costs["experiment"] == LEADING, "train_seconds"] = seconds
    for key in ("images_per_second", "peak_host_memory_mb", "peak_device_memory_mb"):
        costs[key] = 1.0
    for key in ("details", "deduction", "published_test_accuracy"):
        study.tables["experiments"][key] = None
    shown = main_table(study, {})
    rows = {row["experiment"]: row["cells"] for row in shown["rows"]}
    (cell,) = [one for one in rows[LEADING] if one["column"].key == "train_time"]
    assert (cell["column"].unit, cell["text"]) == (unit, text)


def test_cards_say_what_the_documentation_says():
    """Would catch an answer on a page that differs from the one in the documentation."""
    study = kept(against=0.1, drop=0.1, auroc=0.8, enrolled=(0.2, 0.48, 0.5))
    shown = cards.cards(study)
    for (question, say), card in zip(sentences.QUESTIONS, shown, strict=False):
        assert (card.question, card.said) == (question, say(study))
    classifies, added, enrolled, unknown, costs = shown
    assert (classifies.figure, classifies.unit, classifies.interval) == (
        "+10.0", "points", "[8.0, 12.0]",
    )  # fmt: skip
    assert [row["value"] for row in classifies.rows] == [0.6, 0.5]
    assert (added.figure, added.needed) == ("10.0", "")
    assert enrolled.figure == "48.0"
    assert "5 enrolled" in enrolled.of
    assert [row["label"] for row in enrolled.rows] == ["1", "5", "all"]
    assert (unknown.figure, unknown.interval) == ("0.800", "[0.750, 0.850]")
    assert (costs.figure, costs.unit) == ("10.0", "minutes")


@pytest.mark.parametrize(
    ("low", "high", "value", "words"),
    [
        (0.01, 0.03, 0.02, ""),
        # The interval must shrink to a third, which nine times as many give.
        (-0.02, 0.04, 0.01, "shown by about 910 images (now 100)"),
        # The end that is beyond 0 decides, not the other one.
        (-0.001, 0.09, 0.05, "shown by about 110 images (now 100)"),
        (-0.5, 0.5, 0.001, "more than 100 times as many images"),
        (float("nan"), float("nan"), 0.1, ""),
    ],
)
def test_what_would_be_needed_follows_from_the_interval(low, high, value, words):
    """Would catch advice to take more where the difference is shown, or a number from the wrong root."""
    text = cards.more_needed({"low": low, "high": high}, value, 100, "images")
    assert words in text
    assert bool(text) == bool(words)


def test_experiment_stands_against_those_that_it_is_compared_with():
    """Would catch two blocks for one experiment, or a larger drop that is called better."""
    study = kept(against=0.1, training=-0.2)
    rows = [
        difference(LEADING, "other", "like", 0.1),
        difference(LEADING, "other", "baseline", 0.1),
        difference(LEADING, "other", "like", 0.05, metric="precision_drop_unseen_classes"),
    ]
    table = pd.concat([study.tables["differences"], pd.DataFrame(rows)], ignore_index=True)
    study = Study(study.about, {**study.tables, "differences": table}, speaks_of=LEADING)
    blocks, (least, most) = against(study)
    assert [block["other"] for block in blocks] == ["other", CLASSIFIER, START]
    assert blocks[0]["title"] == "the experiment that it is like and the baseline"
    assert [row["real"] for row in blocks[0]["rows"]] == ["better", "worse"]
    assert blocks[2]["rows"][0]["real"] == "worse"
    assert least <= -0.22
    assert most >= 0.12


# What differs, and what cannot be concluded.


def test_differences_from_the_published_protocol_are_found():
    """Would catch a change of weights, size, epochs, optimizer, batch or sampling that nobody is told of."""
    text = page.page([kept()])
    assert "| epochs | 100 | 4 |" in text
    assert "| image size in pixels | 224 | 96 |" in text
    changed = recipe(
        initializer="mine",
        backbone="torchvision/mobilenet_v2",
        batch_size=64,
        samples_per_class=4,
        optimizer={"kind": "adam", "lr": 0.0003, "weight_decay": 0.0},
        loss={"kind": "arcface", "margin": 28.6, "scale": 64},
    )
    like, changes = PUBLISHED_STUDY.changes(["mine"], changed, "ImageNet (`pruned.pth`)")
    assert like == "ArcFace_cosine_resnet18_sgd_aug"
    found = {key: (then, now) for key, then, now in changes}
    assert found["initializer"] == ("ImageNet", "ImageNet (`pruned.pth`)")
    assert found["backbone"] == ("resnet18", "torchvision/mobilenet_v2")
    assert found["batch_size"] == (128, 64)
    assert found["samples_per_class"] == (None, 4)
    assert found["optimizer.kind"] == ("sgd", "adam")
    assert found["optimizer.lr"] == (0.001, 0.0003)
    # Adam has no momentum.
    assert "optimizer.momentum" not in found


def test_nearest_published_experiment_is_the_one_that_it_is_like():
    """Would catch a variant of the baseline that is told to differ from another experiment."""
    adam = recipe(optimizer={"kind": "adam", "lr": 0.001, "weight_decay": 0.0})
    line = ["mine", "EPSHN_cosine_resnet18_sgd_aug"]
    assert PUBLISHED_STUDY.changes(line, adam, "")[0] == "EPSHN_cosine_resnet18_sgd_aug"
    # A variant with another loss is compared with that loss.
    proxies = {**adam, "loss": PUBLISHED_STUDY.recipes["ProxyNCA_cosine_resnet18_sgd_aug"]["loss"]}
    line = ["theirs", *line]
    assert PUBLISHED_STUDY.changes(line, proxies, "")[0] == "ProxyNCA_cosine_resnet18_sgd_aug"


def test_published_recipe_differs_in_nothing():
    """Would catch differences that are none, or an experiment that is told to be a variant of another."""
    for name, published in PUBLISHED_STUDY.recipes.items():
        assert PUBLISHED_STUDY.changes([name], published, "ImageNet") == (name, [])
    dataset = PUBLISHED_STUDY.config["dataset"]
    about = {"published": True, "source": f"archive with md5 {dataset['md5']}"}
    here = {"unseen_draws": 1, **PUBLISHED_STUDY.config["protocol"]}
    here["unseen_draws"] = 1
    assert PUBLISHED_STUDY.protocol_changes(about, here) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("/home/somebody/photos", "local files in the format folders"),
        ("photos", "local files in the format folders"),
        ("md5:12ab", "archive with md5 12ab"),
        ("https://example.org/a.zip", "https://example.org/a.zip"),
    ],
)
def test_source_names_no_path(given, words):
    """Would catch the path of a machine in the documentation."""
    assert keeping.source({"drawn": None, "source": given, "format": "folders"}) == words


def test_value_at_the_end_of_a_selection_is_a_limit():
    """Would catch a learning rate at the edge of those tried that passes for a chosen one."""
    about = facts()
    about["experiments"][LEADING]["selected"] = {"optimizer.lr": 0.001}
    study = kept(about)

    def tried(*values):
        names = [f"loss.scale=16+optimizer.lr={value}" for value in values]
        table = {"experiment": LEADING, "values": names, "epochs": 1}
        study.tables["tuning"] = pd.DataFrame(table)
        return " ".join(limits.limits(study))

    assert "0.001, is the largest of 3 tried" in tried("1e-05", "0.0003", "0.001")
    assert "is the" not in tried("0.0001", "0.001", "0.01")
    assert "of 3 candidates with 1 epoch each: learning rate 0.001" in page.page([study])


def test_limits_follow_from_what_was_run():
    """Would catch a list of limits that is the same for every study."""
    text = " ".join(limits.limits(kept()))
    assert "epochs are 4 in place of 100" in text
    assert "drawn" not in text
    assert "highest at the last epoch" not in text
    about = facts(drawn=True, published=False)
    about["experiments"][LEADING]["changes"].append(
        ["initializer", "ImageNet", "ImageNet (`a.pth`)"]
    )
    study = kept(about)
    study.tables["curves"]["test_accuracy"] = study.tables["curves"]["epoch"] / 10
    text = " ".join(limits.limits(study))
    assert "drawn by a program" in text
    assert "start from ImageNet (`a.pth`) in place of torchvision's weights of ImageNet" in text
    assert "In 4 of 4 trainings the accuracy was highest at the last epoch" in text
    assert "Published figures are for another one" in text


# Several studies.


def test_most_authoritative_study_comes_first(tmp_path):
    """Would catch drawn images, or few epochs, at the top of the README."""

    def entry(epochs=4, seeds=(42,), trains=True, **dataset):
        about = facts(**dataset)
        for name in (LEADING, CLASSIFIER):
            about["experiments"][name]["recipe"] |= {"epochs": epochs, "backbone_trains": trains}
        return {**about, "seeds": list(seeds)}

    expected = {
        "gpu": entry(100),
        "seeds": entry(4, (42, 43)),
        "cub": entry(4),
        "heads": entry(200, (42, 43), trains=False),
        "flowers": entry(100, published=False),
        "demo": entry(200, drawn=True, published=False),
    }
    for name in sorted(expected):
        stored(tmp_path / name, expected[name])
    (tmp_path / "README.md").write_text("not a study")
    studies = kept_studies(tmp_path)
    assert [study.name for study in studies] == list(expected)
    assert sorted(studies, key=authority) == studies
    text = page.page(studies)
    assert text.index("(`gpu`)") < text.index("(`cub`)") < text.index("(`demo`)")
    assert page.RULE in text
    block = page.readme_block(studies)
    assert "docs/results/gpu/answer.svg" in block
    assert f"Without training a network: {sentences.headline(studies[3])}" in block
    assert "200 epochs of heads on a frozen network" in block
    assert block.count("frozen network") == 1
    assert page.readme_block(studies[3:]).count("frozen network") == 1
    assert "| `heads` | birds, photographs | heads | 2 |" in text
    assert text.count("No network was trained, only heads") == 1
    # A link to a heading leads to one study.
    headings = re.findall(r"^#+ .*$", text, re.MULTILINE)
    assert len(headings) == len(set(headings))


def test_study_that_lacks_a_table_is_named(tmp_path):
    """Would catch a traceback, or a page that leaves a study out."""
    folder = stored(tmp_path / "cub")
    (folder / "costs.csv").unlink()
    with pytest.raises(StudyError, match=r"cub: costs\.csv missing"):
        kept_studies(tmp_path)


# Files.


def test_twice_gives_the_same_bytes(project):
    """Would catch a time, a random name or an order that changes from run to run."""
    write_all(project)
    first = texts(project)
    assert {"docs/results.md", "README.md", "docs/results/cub/answer.svg"} <= first.keys()
    assert write_results.stale(project) == []
    # In another process with another seed of hashes and other settings of matplotlib.
    (project / "matplotlibrc").write_text("svg.fonttype: path\nfont.size: 22\nlines.linewidth: 9\n")
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(project)}
    command = [sys.executable, PROJECT / "workflow/scripts/write_results.py", "--project", project]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert texts(project) == first


@pytest.mark.parametrize("table", TABLES)
def test_changed_table_changes_the_page(project, table):
    """Would catch a figure of the page that does not come from the tables."""
    write_all(project)
    path = project / "docs" / "results" / "cub" / f"{table}.csv"
    changed = pd.read_csv(path)
    column = {
        "experiments": "experiment",
        "metrics": "value",
        "differences": "difference",
        "enrolment": "unseen_accuracy",
        "rejection": "auroc",
        "curves": "test_accuracy",
        "costs": "train_seconds",
    }[table]
    if table == "curves":
        changed[column] = changed["epoch"] / 10
    elif table == "experiments":
        changed = changed.iloc[::-1]
    else:
        changed[column] += 0.011
        changed[column] *= 2
    write_csv(path, changed)
    stale = [path.name for path in write_results.stale(project)]
    assert "results.md" in stale
    assert ("README.md" in stale) == (table == "metrics")
    picture = {"metrics": "answer.svg", "enrolment": "enrolment.svg", "rejection": "rejection.svg"}
    assert picture.get(table, "results.md") in stale


def test_block_of_the_readme_is_replaced_alone(project):
    """Would catch a README that loses a part, keeps an old answer or has two."""
    write_all(project)
    text = (project / "README.md").read_text()
    assert text.startswith("# Study\n\n")
    assert text.endswith(f"{page.END}\n\nend\n")
    assert "old" not in text
    assert sentences.headline(kept()) in text
    for broken in ("", README + README):
        with pytest.raises(StudyError, match=r"README\.md: needs the lines"):
            page.with_block(broken, "x")


def test_without_a_study_the_answer_says_so(tmp_path):
    """Would catch an empty block, or an old answer whose study was taken out."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(README)
    write_all(tmp_path)
    for name in ("README.md", "docs/results.md"):
        assert page.NO_STUDY in (tmp_path / name).read_text()


def test_results_of_the_project_are_fresh():
    """Would catch a page, a picture or a README that does not say what docs/results/ says."""
    assert write_results.stale(PROJECT) == [], "run `make results`"


def test_kept_studies_hold_nothing_of_a_machine():
    """Would catch a path, a photograph, weights or a large table in the documentation."""
    for path in (PROJECT / "docs" / "results").rglob("*"):
        if path.is_file():
            assert path.suffix in (".csv", ".json", ".svg", ".md"), path
            assert path.stat().st_size < 200_000, path
            assert not re.search(
                r"(?<![\w.:/])/(tmp|home|work|root|mnt|data|scratch)/", path.read_text()
            )


# Pictures.


def test_pictures_can_be_read_on_light_and_dark_pages():
    """Would catch dark text on a dark page, a missing background, or text drawn as curves."""
    for name, svg in pictures.pictures(kept()).items():
        root = xml.fromstring(svg)
        style = svg.partition("prefers-color-scheme: dark")[2].partition("</style>")[0]
        for light, dark in pictures.DARK.items():
            assert f'[style*="fill: {light}"] {{ fill: {dark} !important; }}' in style
        words = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
        assert any(word and LEADING in word for word in words), name
        # Every text has a colour that the style replaces, or one that suits both.
        for one in root.iter("{http://www.w3.org/2000/svg}text"):
            assert re.search(r"fill: #", one.get("style", "")), (name, one.text)
        assert len(svg) < 100_000


def test_many_rows_draw_few_lines():
    """Would catch a picture of eighteen lines, or one without the rows that sentences speak of."""
    about, study = facts(), kept()
    rows = study.tables["experiments"]
    for number in range(20):
        name = f"other{number}"
        about["experiments"][name] = about["experiments"][LEADING]
        rows = pd.concat([rows, rows.iloc[:1].assign(experiment=name)])
    study.tables["experiments"] = rows
    shown = pictures.few(KeptStudy(about, study.tables, name="cub"))
    assert len(shown) == pictures.MOST_LINES
    assert {LEADING, CLASSIFIER, START} <= set(shown)


def test_results_are_written_without_torch():
    """Would catch `make results` that waits for torch."""
    code = (
        "import sys, write_results, dmlstudy.pages.results.keeping\n"
        "sys.exit('torch' in sys.modules or 'snakemake' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "workflow" / "scripts")}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


# The small study of the real photographs.


def test_study_for_two_cores_is_planned():
    """Would catch a file that is refused, other data or weights than published, or unequal budgets."""
    config = json.loads(json.dumps(PUBLISHED))
    added = read_yaml(PROJECT / "config" / "cub_on_two_cores.yaml")
    for key, value in added.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    configuration.validate(config, [])
    study = planning.plan(config, describe)
    assert list(study.experiments) == [*added["experiments"], *study.untrained]
    assert study.config["dataset"] == planning_of_published().config["dataset"]
    assert {entry["initializer"] for entry in study.experiments.values()} == {"imagenet"}
    assert study.initializers["imagenet"]["kind"] == "published"
    assert {len(tried) for tried in study.candidates.values()} == {3}
    assert len(study.candidates) == len(added["experiments"])


def planning_of_published():
    config = json.loads(json.dumps(PUBLISHED))
    configuration.validate(config, [])
    return planning.plan(config, describe)


def test_what_cannot_be_compared_and_what_was_not_trained_have_answers():
    """A page that fails for a foundation model beside a classifier, and a drop of features that nobody trained."""
    study = kept()
    differences = study.tables["differences"]
    alone = differences[differences["role"] != "classifier"]
    found = Study(study.about, {**study.tables, "differences": alone}, speaks_of=LEADING)
    assert sentences.classifies(found) == [
        "This study has no pair of a metric loss and a classical classifier to compare."
    ]
    assert cards.cards(found)[0].figure == ""
    found = Study(study.about, study.tables, speaks_of=START)
    card = cards.cards(found)[1]
    assert card.said[0].startswith("Nothing: these features were not trained")
    assert (card.figure, card.needed, card.rows) == ("", "", ())
