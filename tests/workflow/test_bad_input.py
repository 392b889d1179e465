"""Mistakes in the configuration: each is refused in words before any job, with file, entry and key."""

import json

import pytest
import yaml

CONFIG = "config/config.yaml"
EXPERIMENTS = "config/experiments.yaml"
TINY = "tests/workflow/tiny.yaml"
ARCFACE = "ArcFace_cosine_resnet18_sgd_aug"
BASELINE = "EPSHN_cosine_resnet18_sgd_aug"

# What is wrong: (file, change of its content, words that must stand in the message).
MISTAKES = {
    "unknown key": (TINY, lambda c: c.update(epoch=3), [TINY, "epoch", "unknown key"]),
    "unknown key inside": (
        TINY,
        lambda c: c["protocol"].update(unseen=3),
        [TINY, "protocol.unseen", "unknown key", "unseen_classes"],
    ),
    "wrong type": (
        TINY,
        lambda c: c["protocol"].update(epochs="many"),
        [TINY, "protocol.epochs", "'many'", "integer"],
    ),
    "wrong choice": (
        TINY,
        lambda c: c["protocol"].update(precision="half"),
        [TINY, "protocol.precision", "'half'", "bfloat16"],
    ),
    "out of range": (
        TINY,
        lambda c: c["protocol"].update(test_share=1.5),
        [TINY, "protocol.test_share", "1.5"],
    ),
    "missing part": (
        CONFIG,
        lambda c: c.pop("baseline"),
        ["baseline", "is missing"],
    ),
    "unknown loss": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE].update(loss={"kind": "arcfase"}),
        [EXPERIMENTS, f"experiments.{ARCFACE}.loss.kind", "'arcfase'", "arcface"],
    ),
    "unknown parameter of a loss": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE]["loss"].update(marjin=3),
        [EXPERIMENTS, f"experiments.{ARCFACE}.loss.marjin", "margin, scale"],
    ),
    "wrong type of a parameter": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE]["loss"].update(margin="wide"),
        [EXPERIMENTS, f"experiments.{ARCFACE}.loss.margin", "'wide'", "float"],
    ),
    "unknown key of an experiment": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE].update(lr=3),
        [EXPERIMENTS, f"experiments.{ARCFACE}.lr", "unknown key"],
    ),
    "like a missing experiment": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE].update(like="baseline"),
        [EXPERIMENTS, f"experiments.{ARCFACE}.like", "'baseline'"],
    ),
    "like itself": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE].update(like=ARCFACE),
        [EXPERIMENTS, f"experiments.{ARCFACE}.like", "circle"],
    ),
    "unknown initializer": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE].update(initializer="imagenet21k"),
        [EXPERIMENTS, f"experiments.{ARCFACE}.initializer", "'imagenet21k'", "scratch"],
    ),
    "unseen classes as many as there are": (
        TINY,
        lambda c: c["protocol"].update(unseen_classes=6),
        [TINY, "protocol.unseen_classes", "6 classes"],
    ),
    "unknown experiment to run": (
        TINY,
        lambda c: c["only"].append("EPSHN"),
        [TINY, "only", "'EPSHN'"],
    ),
    "unknown baseline": (
        CONFIG,
        lambda c: c.update(baseline="none"),
        [CONFIG, "baseline", "'none'"],
    ),
    "two sources": (
        TINY,
        lambda c: c["dataset"].update(source="birds.tgz"),
        [TINY, "dataset", "exactly one of source:, files: and drawn:"],
    ),
    "unknown format": (
        TINY,
        lambda c: c["dataset"].update(format="coco"),
        [TINY, "dataset.format", "'coco'", "folders"],
    ),
    "missing source": (
        TINY,
        lambda c: c["dataset"].update(drawn=None, source="no/such/folder"),
        ["dataset.source", "no/such/folder"],
    ),
    "local file among addresses": (
        TINY,
        lambda c: c["dataset"].update(drawn=None, source=["https://host/birds.tgz", "birds.tgz"]),
        [TINY, "dataset.source", "'birds.tgz'", "alone"],
    ),
    "address of an unknown kind": (
        TINY,
        lambda c: c["dataset"].update(drawn=None, source="s3://bucket/birds.tgz"),
        [TINY, "dataset.source", "'s3://bucket/birds.tgz'", "http, https"],
    ),
    "no address at all": (
        TINY,
        lambda c: c["dataset"].update(drawn=None, source=[]),
        [TINY, "dataset.source"],
    ),
    "checksum that is none": (
        TINY,
        lambda c: c["dataset"].update(sha256="97eceeb196236b17998738112f37df78"),
        [TINY, "dataset.sha256"],
    ),
    "size that is none": (
        TINY,
        lambda c: c["dataset"].update(bytes="1.1 GB"),
        [TINY, "dataset.bytes", "'1.1 GB'", "integer"],
    ),
    "table of a format without one": (
        TINY,
        lambda c: c["dataset"].update(csv="photos.csv"),
        [TINY, "dataset.csv", "format cub reads no CSV file"],
    ),
    "missing weights": (
        CONFIG,
        lambda c: c["initializers"]["imagenet"].update(weights={"resnet18": "no/such.pth"}),
        [CONFIG, "initializers.imagenet.weights.resnet18", "no/such.pth: no such file"],
    ),
    "weights of an unknown network": (
        CONFIG,
        lambda c: c["initializers"]["imagenet"].update(weights={"resnet34": "a.pth"}),
        [CONFIG, "initializers.imagenet.weights", "resnet34"],
    ),
    "samples that do not divide the batch": (
        TINY,
        lambda c: c["protocol"].update(samples_per_class=3),
        ["samples_per_class", "batch_size 8"],
    ),
    "unknown data set of an initializer": (
        TINY,
        lambda c: c["initializers"]["other_species"].update(dataset="imagenet"),
        [TINY, "initializers.other_species.dataset", "'imagenet'"],
    ),
    "initializers in a circle": (
        TINY,
        lambda c: c["initializers"]["other_species"]["recipe"].update(initializer="classifier"),
        ["initializers", "circle"],
    ),
    "typo in a selection": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE].update(selection={"loss.scael": [16, 32]}),
        [EXPERIMENTS, f"experiments.{ARCFACE}.selection.loss.scael", "margin, scale"],
    ),
    "nothing to select": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE].update(selection={"loss.scale": []}),
        [EXPERIMENTS, f"experiments.{ARCFACE}.selection.loss.scale", "[]"],
    ),
    "unequal budgets": (
        EXPERIMENTS,
        lambda c: (
            c["experiments"][BASELINE].update(selection={"loss.temperature": [0.1, 0.2]}),
            c["experiments"][ARCFACE].update(selection={"loss.scale": [16, 32, 64]}),
        ),
        [
            EXPERIMENTS,
            f"experiments.{ARCFACE}.selection",
            "3 candidates",
            BASELINE,
            "has 2 of 1",
        ],
    ),
    "negative learning rate": (
        EXPERIMENTS,
        lambda c: c["experiments"][ARCFACE].update(optimizer={"lr": -0.1}),
        [EXPERIMENTS, f"experiments.{ARCFACE}.optimizer.lr", "must be > 0"],
    ),
    "seed that NumPy does not take": (
        TINY,
        lambda c: c["protocol"].update(seeds=[2**32]),
        [TINY, "protocol.seeds.0", "must be <= 4294967295"],
    ),
    "name that YAML reads as a number": (
        EXPERIMENTS,
        lambda c: c["experiments"].update({2024: {"like": ARCFACE}}),
        [EXPERIMENTS, "experiments.2024", "put the name into quotes"],
    ),
    "factor of an unknown optimizer": (
        TINY,
        lambda c: c.update(learning_rate_scale={"sgd": 10, "sdg": 3}),
        [TINY, "learning_rate_scale.sdg", "did you mean sgd?"],
    ),
    "results that look like an option": (
        TINY,
        lambda c: c.update(results_dir="-r"),
        [TINY, "results_dir", "begins with a dash"],
    ),
    "row without training, twice": (
        TINY,
        lambda c: c["untrained"].update(backbones=["resnet18", "resnet18"]),
        [TINY, "untrained.backbones", "'resnet18' twice"],
    ),
    "name that leaves the folder": (
        EXPERIMENTS,
        lambda c: c["experiments"].update({"../x": {"like": ARCFACE}}),
        [EXPERIMENTS, "../x"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_refused_in_words(fresh, mistake):
    """A mistake that starts a job, or a traceback where a sentence belongs."""
    file, change, words = MISTAKES[mistake]
    fresh.change_yaml(file, change)
    text = fresh.snakemake("--dry-run", ok=False)
    for word in words:
        assert word in text
    assert "Traceback" not in text
    assert "Job stats" not in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("device=gpu", "--config): device: is 'gpu'"),
        ("protocol={epochs: many}", "--config): protocol.epochs: is 'many'"),
    ],
)
def test_mistake_of_the_command_line_is_told_as_one(fresh, value, words):
    """A mistake of --config that is blamed on a file that is right."""
    text = fresh.snakemake("--dry-run", "--config", value, ok=False)
    assert words in text
    assert f"{TINY}: " not in text


def test_other_spellings_of_what_is_right(fresh):
    """JSON with tabs, numbers of --config, and a results folder with ./, // and / that warns at every file."""
    path = fresh.folder / TINY
    content = {**yaml.safe_load(path.read_text()), "results_dir": ".//results/tiny/"}
    content["protocol"] |= {"split_seed": 42.0, "compute_threads": 1.0}
    content["dataset"]["classes"] = 6.0
    (fresh.folder / "tabs.json").write_text(json.dumps(content, indent="\t"))
    options = ("--dry-run", "--printshellcmds", "--config", "protocol={epochs: 2}")
    text = fresh.snakemake(*options, config="tabs.json")
    assert "starts with" not in text
    assert "double" not in text
    assert "--out results/tiny/study.json " in text


def test_home_folder_in_results_dir(fresh, monkeypatch):
    """A folder called ~ in the project."""
    home = fresh.folder / "my home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    fresh.change_yaml(TINY, lambda c: c.update(results_dir="~/dml"))
    text = fresh.snakemake("--dry-run", "--printshellcmds")
    assert f"--out '{home}/dml/study.json' " in text
    assert not (fresh.folder / "~").exists()


def test_too_few_images_are_told_before_the_first_training(fresh):
    """A traceback of a training, after others have run for hours."""
    fresh.change_yaml(
        TINY,
        lambda c: (
            c["dataset"]["drawn"].update(images_per_class=2),
            c["protocol"].update(test_share=0.5, unseen_classes=5),
        ),
    )
    text = fresh.snakemake(ok=False)
    assert f"{EXPERIMENTS}: experiments.{BASELINE}: {BASELINE} " in text
    assert "training image(s))" in text
    assert "Traceback" not in text
    assert not list(fresh.folder.glob("results/tiny/experiments/*/*/*/curves.csv"))


def test_key_that_stands_twice_is_refused(fresh):
    """Of two entries of one name YAML silently keeps the last."""
    path = fresh.folder / EXPERIMENTS
    path.write_text(path.read_text() + f"\n  {ARCFACE}:\n    like: EPSHN_euclidean_resnet18\n")
    text = fresh.snakemake("--dry-run", ok=False)
    assert f"key '{ARCFACE}' stands there twice" in text
    assert EXPERIMENTS in text
