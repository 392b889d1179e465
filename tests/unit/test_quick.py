"""`make quick` before any job: what it says of photographs and options, and what it configures."""

import copy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from configurations import PUBLISHED, describe
from hypothesis import given, settings
from hypothesis import strategies as st
from snakemake.utils import update_config

from dmlstudy.core.files import StudyError
from dmlstudy.data.dataset import classes_missing_from_a_part, draw_split
from dmlstudy.plan import configuration, quick
from dmlstudy.plan.combination_layout import CombinationLayout
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.planning import plan
from dmlstudy.plan.sources import read_yaml

PROJECT = Path(__file__).resolve().parents[2]
BASE = read_yaml(PROJECT / "config" / "quick.yaml")
PROGRAM = PROJECT / "workflow" / "scripts" / "quick.py"


def photographs(folder, sizes):
    """A folder of class folders with files that are named as photographs; nothing opens them."""
    for name, size in sizes.items():
        (folder / name).mkdir(parents=True)
        for index in range(size):
            (folder / name / f"{index}.jpg").touch()
    return str(folder)


def planned(config):
    """The study of what `quick.configuration` gives, over the published one."""
    merged = copy.deepcopy(PUBLISHED)
    update_config(merged, copy.deepcopy(config))
    configuration.validate(merged, [])
    return plan(merged, describe)


def test_each_class_is_counted(tmp_path):
    """Would catch a count of folders, of files beside photographs, or of another class."""
    folder = photographs(tmp_path / "mine", {"b": 3, "a": 2, "c": 12})
    (tmp_path / "mine" / "a" / "notes.txt").touch()
    assert quick.class_sizes(folder, tmp_path / "x") == {"a": 2, "b": 3, "c": 12}


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"wren": 5}, "1 class(es), 'wren'; at least 3 are needed"),
        ({"wren": 5, "robin": 5}, "2 class(es), 'robin', 'wren'; at least 3 are needed"),
        (
            {"wren": 1, "robin": 5, "tit": 4},
            "1 of 3 classes have fewer than 2 photographs: 'wren' has 1",
        ),
        ({"wren": 0, "robin": 5, "tit": 4}, "'wren' has 0"),
        ({}, "contains no folders of images"),
    ],
)
def test_photographs_that_do_not_suffice_are_told(tmp_path, sizes, words):
    """Would catch a study that stops half-way, or a page of nothing."""
    folder = photographs(tmp_path / "mine", sizes)
    (tmp_path / "mine").mkdir(exist_ok=True)
    with pytest.raises(StudyError) as error:
        quick.class_sizes(folder, tmp_path / "x")
    assert words in str(error.value)


def test_what_is_no_folder_is_told(tmp_path):
    """Would catch a traceback for a path that was typed wrongly."""
    (tmp_path / "file.jpg").touch()
    for name, words in (("file.jpg", "is a file"), ("none", "does not exist")):
        with pytest.raises(StudyError, match=f"{words}; give a folder that holds a folder of"):
            quick.class_sizes(tmp_path / name, tmp_path / "x")


@settings(max_examples=40)
@given(st.lists(st.integers(2, 30), min_size=3, max_size=12), st.integers(0, 5))
def test_every_class_has_a_photograph_in_both_parts(sizes, seed):
    """Would catch a share of which a small class gets nothing, so that the study stops."""
    named = {f"c{index}": size for index, size in enumerate(sizes)}
    class_ids = [index for index, size in enumerate(sizes) for _ in range(size)]
    manifest = pd.DataFrame(
        {
            "image_id": range(len(class_ids)),
            "class_id": class_ids,
            "class_name": [f"c{index}" for index in class_ids],
        }
    )
    share = quick.test_share(named)
    table = draw_split(manifest, method="stratified", test_share=share, seed=seed)
    assert classes_missing_from_a_part(manifest, table, "stratified") == []
    assert 0.2 <= share <= 0.5


def test_a_share_of_the_classes_plays_new_ones():
    """Would catch no new class, or only new ones."""
    counts = {
        classes: quick.unseen_classes(dict.fromkeys(range(classes))) for classes in (3, 10, 40)
    }
    assert counts == {3: 1, 10: 2, 40: 6}


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Meine Vögel", "Meine_Vogel"), ("birds", "birds"), ("鳥", "photos"), ("-x-", "x")],
)
def test_results_have_a_name_that_is_allowed(tmp_path, folder, name):
    """Would catch a folder whose name the configuration refuses."""
    assert quick.name_of(tmp_path / folder) == name


def test_backbones_are_read_with_their_files(tmp_path):
    """Would catch a file that is taken for another backbone's, and blanks in its name."""
    (tmp_path / "my weights.pth").touch()
    text = f"resnet18 'resnet50={tmp_path}/my weights.pth'"
    assert quick.backbones_of(text) == [
        ("resnet18", None),
        ("resnet50", f"{tmp_path}/my weights.pth"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resnet19", "did you mean resnet18"),
        ("resnet18 resnet18", "resnet18 stands twice"),
        ("resnet18=none.pth", "none.pth: no such file of weights"),
        (" ", "names no backbone"),
        ("'resnet18", "No closing quotation"),
    ],
)
def test_mistakes_in_backbones_are_told(text, words):
    """Would catch a mistake that is found only after minutes."""
    with pytest.raises(StudyError) as error:
        quick.backbones_of(text)
    assert str(error.value).startswith(f"BACKBONES={text}: ")
    assert words in str(error.value)


def test_configuration_is_a_study_of_features_that_are_not_fitted(tmp_path):
    """Would catch a row that trains, heat maps of the published data set, or weights that are mixed up."""
    weights = tmp_path / "w.pth"
    weights.touch()
    sizes = dict.fromkeys("abcdefghij", 4)
    own = quick.configuration(
        BASE,
        "photos",
        "mine",
        sizes,
        [("resnet18", None), ("torchvision/mobilenet_v2", str(weights))],
    )
    study = planned(own)
    assert study.unfitted == list(study.experiments) == own["only"]
    starts = {entry["backbone"]: entry["initializer"] for entry in study.experiments.values()}
    assert starts == {"resnet18": "imagenet", "torchvision/mobilenet_v2": quick.OWN_WEIGHTS}
    dataset = study.config["dataset"]
    assert (dataset["source"], dataset["classes"], dataset["md5"]) == ("photos", 10, None)
    assert study.config["results_dir"] == "results/quick/mine"
    assert (study.config["protocol"]["unseen_classes"], len(study.limited)) == (2, 5)
    assert study.config["protocol"]["test_share"] == 0.25
    # Without BACKBONES, those of config/quick.yaml.
    assert len(planned(quick.configuration(BASE, "photos", "mine", sizes)).unfitted) == 3
    assert read_yaml(PROJECT / "config" / "quick.yaml") == BASE


def test_one_model_stands_for_all_class_sets():
    """Would catch a model per draw of unseen classes, although nothing is fitted."""
    study = planned(quick.configuration(BASE, "photos", "mine", dict.fromkeys("abcd", 9)))
    files = Layout("r", study, by_digest=str)
    combinations = CombinationLayout(files)
    name = study.unfitted[0]
    assert files.embedding_inputs(name)["embeddings"] == [
        f"r/experiments/{name}/seed42/all_classes/embeddings.npz"
    ]
    assert len(files.embedding_inputs(name)["class_set"]) == 6
    assert set(combinations.feature_costs()) == set(study.unfitted)
    assert sum(path.endswith(".weights") for path in combinations.weights()) == 3


def test_training_that_the_page_offers_is_a_study(tmp_path):
    """Would catch a file that Snakemake refuses, and one that trains from other weights."""
    (tmp_path / "w.pth").touch()
    own = quick.configuration(
        BASE, "photos", "mine", dict.fromkeys("abcd", 9), [("resnet50", f"{tmp_path}/w.pth")]
    )
    study = planned(own)
    trained = planned(quick.training_configuration(study, study.unfitted[0]))
    whole, head, untrained = trained.experiments.values()
    assert [one["backbone"] for one in (whole, head, untrained)] == ["resnet50"] * 3
    assert [one["initializer"] for one in (whole, head, untrained)] == [quick.OWN_WEIGHTS] * 3
    assert (whole["backbone_trains"], head["backbone_trains"]) == (True, False)
    assert trained.config["results_dir"] == "results/quick/mine/trained"


def test_training_tests_the_photographs_of_the_page():
    """Would catch a training whose split forgets what the user's own file says of copies, groups or seeds."""
    own = quick.configuration(BASE, "photos", "mine", dict.fromkeys("abcd", 9))
    own["protocol"] |= {"duplicates": "together", "split_seed": 7, "image_size": 64}
    own["device"] = "cpu"
    study = planned(own)
    trained = planned(quick.training_configuration(study, study.unfitted[0]))
    assert trained.config["protocol"] == study.config["protocol"] | {"unseen_draws": 0}
    assert trained.config["device"] == "cpu"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "make quick PHOTOS=path/to/photos"),
        (["--photos", ""], "make quick PHOTOS=path/to/photos"),
        (["--photos", "none"], "PHOTOS=none: does not exist"),
        (["--photos", ".", "--config", "none.yaml"], "CONFIG=none.yaml: no such configuration"),
        (
            ["--photos", ".", "--name", "../../config"],
            "NAME=../../config: a name has letters, digits",
        ),
        (["--photos", ".", "--name", "a/b"], "NAME=a/b: a name has letters, digits"),
        (["--photos", ".", "--name", "x" * 101], "at most 100 of them"),
    ],
)
def test_program_says_what_is_missing(tmp_path, options, words):
    """Would catch a traceback, or Snakemake's, in place of a sentence."""
    done = subprocess.run(
        [sys.executable, PROGRAM, *options], cwd=tmp_path, text=True, capture_output=True
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
