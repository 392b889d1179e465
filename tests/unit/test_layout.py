"""Which files a job reads, without Snakemake."""

import copy
from pathlib import Path

import pytest

from dmlstudy.plan import configuration
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.planning import plan
from dmlstudy.plan.sources import read_yaml
from dmlstudy.plan.start_costs import start_cost_files, start_costs

CONFIG = Path(__file__).resolve().parents[2] / "config"
BASELINE = "EPSHN_cosine_resnet18_sgd_aug"
CLASSIFIED = "EPSHN_cosine_resnet18_classifier_sgd_aug"
# Entries whose network does not train, and one that trains nothing.
MORE = {
    "head": {
        "like": BASELINE,
        "backbone_trains": False,
        "selection": {"head.embedding_dim": [64, 128]},
    },
    "head_of_classifier": {"like": CLASSIFIED, "backbone_trains": False},
    "as_it_is": {"like": BASELINE, "epochs": 0, "head": {"kind": "none"}},
}


def layout(change=lambda config: None):
    """The published study's, after a change; what is followed by its digest is marked."""
    config = {}
    for name in ("config.yaml", "experiments.yaml"):
        config |= copy.deepcopy(read_yaml(CONFIG / name))
    change(config)
    configuration.validate(config, [])
    return Layout("r", plan(config), by_digest=lambda path: f"by digest: {path}")


def test_limited_runs_start_from_weights_of_their_own_classes_and_seed():
    """Would catch an initializer that saw unseen classes, or one of another seed."""
    files = layout()
    for experiment, name in (
        ("EPSHN_cosine_resnet18_classifier_sgd_aug", "classifier"),
        ("EPSHN_cosine_simclr_resnet18_sgd_aug", "simclr"),
    ):
        read = files.run_inputs(experiment, "limited_classes", 43)
        own = f"r/initializers/{name}/limited_classes/seed43/resnet18.weights"
        assert read["weights"] == f"by digest: {own}"
        assert read["weights_digest"] == f"{own}.sha256"
        assert read["class_set"] == ["r/data/cub200_2011/class_sets/limited_classes.csv"]
    read = files.run_inputs(BASELINE, "limited_classes", 43)
    assert read["weights"] == "by digest: r/initializers/imagenet/resnet18.weights"
    read = files.run_inputs("EPSHN_cosine_resnet18_scratch_sgd_aug", "limited_classes", 43)
    assert "weights" not in read
    read = files.initializer_inputs("classifier", "resnet18", "limited_classes", 43)
    assert read["class_set"] == ["r/data/cub200_2011/class_sets/limited_classes.csv"]
    assert read["weights"] == "by digest: r/initializers/imagenet/resnet18.weights"


def test_verdict_knows_what_was_trained_and_what_runs_start_from():
    """Would catch heads that pass for networks, initializers or features that cost nothing, and ImageNet's training."""
    files = layout(lambda config: config["experiments"].update(MORE))
    study = files.study
    assert {name: study.trained_of(name) for name in (BASELINE, *MORE, *study.untrained)} == {
        BASELINE: "backbone",
        "head": "head",
        # Its network was trained on the study's images before.
        "head_of_classifier": "backbone",
        "as_it_is": "nothing",
        **dict.fromkeys(study.untrained, "nothing"),
    }
    costs = start_costs(files)
    assert BASELINE not in costs
    features = "r/features/{}/resnet18_224_shorter224/cost.json"
    assert costs["head"]["limited_classes 42"] == [features.format("imagenet")]
    own = "classifier/limited_classes/seed42"
    initializer = f"r/initializers/{own}/resnet18_cost.json"
    assert costs[CLASSIFIED]["limited_classes 42"] == [initializer]
    assert costs["head_of_classifier"]["limited_classes 42"] == [initializer, features.format(own)]
    assert initializer in start_cost_files(files)
    # Only a head that is selected must be waited for.
    assert list(files.model_inputs()) == ["head"]
    assert study.models["as_it_is"]["trains"] is False
    assert ("head", "linear") in study.model_pieces


def test_packs_are_those_of_the_augmentation():
    """Would catch training images without a margin to crop, or tests on another transform's."""
    files = layout()
    read = files.run_inputs(BASELINE, "all_classes", 42)
    assert read["train_digest"] == "r/data/cub200_2011/pack_shorter246/pixels.bin.sha256"
    assert read["test_digest"] == "r/data/cub200_2011/pack_shorter224/pixels.bin.sha256"
    read = files.test_pack_files("EPSHN_cosine_resnet18")
    assert set(read) == {"test_pixels", "test_index", "test_digest"}
    assert read["test_digest"] == "r/data/cub200_2011/pack_squash224/pixels.bin.sha256"


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_local_data_are_read_where_they_lie(tmp_path, kind):
    """Would catch a local archive that is downloaded, or a folder of somebody's that is unpacked."""
    source = tmp_path / "photos"
    source.mkdir() if kind == "folder" else source.touch()

    def change(config):
        config["dataset"] |= {"name": "mine", "format": "folders", "source": str(source)}

    files = layout(change)
    assert files.downloaded == files.drawn == []
    assert files.folders == (["mine"] if kind == "folder" else [])
    assert files.unpacked == ([] if kind == "folder" else ["mine"])
    assert files.archive("mine") == {"archive": f"by digest: {source}"}
    if kind == "folder":
        assert files.image_files("mine") == {}
        assert files.image_folder("mine") == str(source)
    else:
        assert files.image_folder("mine") == "r/data/mine/images"


def test_final_targets_name_each_experiment_and_nothing_twice():
    """Would catch an experiment without a page, or a tracker's files where nothing is tracked."""
    files = layout()
    targets = files.final_targets([])
    assert len(set(targets)) == len(targets)
    for name in files.study.experiments:
        assert f"r/experiments/{name}/report.html" in targets
    assert not [path for path in targets if path.endswith("tracking.json")]
    tracked = set(files.final_targets(["limited_classes"])) - set(targets)
    assert len(tracked) == len(files.study.experiments)
