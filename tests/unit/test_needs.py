"""What trainings need of the images: told before the first training, with file, experiment and key."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from configurations import PROJECT, describe, small

from dmlstudy.core.files import StudyError
from dmlstudy.data.needs import refuse_unmet
from dmlstudy.plan import configuration
from dmlstudy.plan.needs import needs
from dmlstudy.plan.planning import plan

NEED = {
    "place": "my.yaml: protocol.batch_size",
    "name": "mine",
    "samples_per_class": None,
    "batch_size": 8,
    "pairs": False,
    "held_out_share": None,
}


@pytest.mark.parametrize(
    ("images", "change", "words"),
    [
        ([1], {}, "at least two training images"),
        ([1], {"pairs": True}, "at least two training images"),
        ([1, 1, 1], {"pairs": True}, "no class has two training images"),
        ([5, 5], {"samples_per_class": 2}, "2 samples per class, of which 2 class.es. do not fill"),
        ([5, 5], {"held_out_share": 0.2}, "fewer than two are left to train on"),
        ([5, 1, 5, 5], {"held_out_share": 0.2}, "two training images of each seen class"),
        ([5] * 5, {"held_out_share": 0.3, "samples_per_class": 2}, "of which 3 class.es. do not"),
    ],
)
def test_what_is_too_small_is_refused(images, change, words):
    """Would catch a traceback of the sampler, or trainings of hours before a sentence."""
    with pytest.raises(StudyError, match=words) as caught:
        refuse_unmet(images, "limited_classes", [{**NEED, **change}])
    message = str(caught.value)
    assert message.startswith("my.yaml: protocol.batch_size: mine ")
    assert f"limited_classes: {len(images)} class(es), {sum(images)} training" in message


@pytest.mark.parametrize(
    ("images", "change"),
    [
        ([2], {}),
        ([1, 1], {}),
        ([1, 2], {"pairs": True}),
        ([1, 1, 1, 1], {"samples_per_class": 2}),
        ([2, 2, 2], {"held_out_share": 0.2}),
        ([5] * 5, {"held_out_share": 0.2, "samples_per_class": 2}),
    ],
)
def test_what_suffices_is_not_refused(images, change):
    """Would catch a small study that could be run."""
    refuse_unmet(images, "all_classes", [{**NEED, **change}])


def planned(**changes):
    config = small()
    config["experiments"] |= changes
    config["protocol"]["samples_per_class"] = 4
    configuration.validate(config, [])
    return plan(config, describe)


def test_every_training_of_a_data_set_says_what_it_needs():
    """Would catch an experiment, a candidate or an initializer that nobody checks."""
    selection = {"optimizer.lr": [0.1, 0.2], "samples_per_class": [2, 4]}
    study = planned(
        own={"like": "EPSHN_cosine_resnet18", "samples_per_class": 8, "initializer": "classifier"},
        child={"like": "own", "epochs": 3},
        chosen={"like": "EPSHN_cosine_resnet18", "selection": selection},
        never={"like": "EPSHN_cosine_resnet18", "epochs": 0},
    )
    found = {}
    for need in needs(study, study.name):
        found.setdefault(need["name"], []).append(need)
    assert found["own"][0]["keys"] == ["experiments", "own", "samples_per_class"]
    assert found["child"][0]["keys"] == ["experiments", "own", "samples_per_class"]
    assert found["EPSHN_cosine_resnet18"][0]["keys"] == ["protocol", "samples_per_class"]
    assert [need["samples_per_class"] for need in found["chosen"]] == [2, 4]
    assert {need["held_out_share"] for need in found["chosen"]} == {0.2}
    assert found["initializer classifier"][0]["keys"] == ["initializers", "classifier", "recipe"]
    assert not {"never", *study.untrained} & found.keys()
    json.dumps(found)


def test_the_program_checks_all_class_sets(tmp_path):
    """Would catch trainings of all classes that begin although the limited ones cannot."""
    rows = [(index, index // 2, f"class {index // 2}") for index in range(6)]
    manifest = pd.DataFrame(rows, columns=["image_id", "class_id", "class_name"])
    manifest["path"] = manifest["sha256"] = "x"
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    split = manifest[["image_id"]].assign(part=["train", "test"] * 3)
    split.to_csv(tmp_path / "split.csv", index=False)
    class_sets = {"all_classes": {"unseen": 0}, "limited_classes": {"unseen": 2}}
    command = [
        *(sys.executable, PROJECT / "workflow/scripts/choose_classes.py"),
        *("--manifest", tmp_path / "manifest.csv", "--split", tmp_path / "split.csv"),
        *("--class-set", "all_classes", "--unseen", "0", "--out", tmp_path / "out.csv"),
    ]

    def run(needed):
        options = ["--needs", json.dumps([needed, class_sets])]
        return subprocess.run([*command, *options], capture_output=True, text=True)

    refused = run([NEED])
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "my.yaml: protocol.batch_size: mine needs at least two" in refused.stderr
    assert "limited_classes: 1 class(es), 1 training image(s)" in refused.stderr
    assert not (tmp_path / "out.csv").exists()
    # With two classes left out in each draw, no class is seen in every set.
    class_sets |= {f"limited_classes_{seed}": {"unseen": 2, "seed": seed} for seed in range(5)}
    refused = run([{**NEED, "held_out_share": 0.2}])
    assert "seen in every class set: 0 class(es), 0 training image(s)" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run([]).returncode == 0
    assert pd.read_csv(tmp_path / "out.csv")["seen"].tolist() == [1, 1, 1]
