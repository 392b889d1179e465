"""The configuration of `make quick`: somebody's folder of class folders, without training.

It adds a data set to config/quick.yaml. docs/quick.md explains it.
"""

import copy
import os
import re
import shlex
import unicodedata
from collections import Counter
from pathlib import Path

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.core.names import first_of
from dmlstudy.data.listing import list_rows
from dmlstudy.plan import wording
from dmlstudy.plan.setting_types import NAME, NAME_LENGTH, PATTERNS

# A new class is judged beside classes that are known, of which telling apart is a question.
LEAST_CLASSES = 3
# Share of the classes that play new ones, and of each class's photographs that are tested.
UNSEEN_SHARE, TEST_SHARE = 0.15, 0.2
# Name of the initializer of weights that somebody gives as files.
OWN_WEIGHTS = "own_weights"


def class_sizes(photos, own):
    """{class name: number of photographs} of a folder of class folders.

    ``own``: a path in the results, which are no class. Raises StudyError for what is no such folder, for too
    few classes, and for a class that has too few photographs for one to be tested.
    """
    folder = Path(photos).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise StudyError(
            f"PHOTOS={photos}: {what}; give a folder that holds a folder of photographs per class"
        )
    names, rows = list_rows(folder, "folders", own=own)
    counts = Counter(row["class_id"] for row in rows)
    sizes = {name: counts[index] for index, name in enumerate(names)}
    small = [f"{name!r} has {size}" for name, size in sizes.items() if size < 2]
    if small:
        raise StudyError(
            f"PHOTOS={photos}: {len(small)} of {len(sizes)} classes have fewer than 2 photographs: "
            f"{first_of(small)}; one is compared with and one is tested. Add photographs, 10 per class are a "
            "start, or move these folders elsewhere"
        )
    if len(sizes) < LEAST_CLASSES:
        raise StudyError(
            f"PHOTOS={photos}: {len(sizes)} class(es), {first_of(map(repr, sizes))}; at least "
            f"{LEAST_CLASSES} are needed: one that plays a new class, and two known ones to tell it from. Give "
            "the folder that holds the folders of all classes"
        )
    return sizes


def test_share(sizes):
    """Share of the photographs that are tested: so many that each class has one."""
    # Of two photographs one is left to compare with.
    return max(TEST_SHARE, round(1 / min(sizes.values()), 6))


def unseen_classes(sizes):
    """How many classes play new ones."""
    return max(1, round(UNSEEN_SHARE * len(sizes)))


def name_of(photos):
    """A name for the results of a folder, of letters, digits and _ + . -."""
    name = os.path.basename(os.path.realpath(Path(photos).expanduser()))
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_+.-]+", "_", plain).strip("_.+-")[:60] or "photos"


def check_name(name):
    """Raise StudyError for a name of the results that is not allowed: files would be written elsewhere."""
    if not re.fullmatch(NAME, name) or len(name) > NAME_LENGTH:
        raise StudyError(f"NAME={name}: {PATTERNS[NAME]}; at most {NAME_LENGTH} of them")


def backbones_of(text):
    """[(backbone, file of its weights or None)] of ``resnet18 resnet50=weights/resnet50.pth``.

    Raises StudyError for a text without a backbone, an unknown family, a backbone that stands twice, and a
    file that does not exist.
    """
    found = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise StudyError(f"BACKBONES={text}: {error}") from None
    for word in words:
        backbone, given, path = word.partition("=")
        problem = registry.unknown_family(backbone)
        if problem:
            raise StudyError(f"BACKBONES={text}: {problem}")
        if backbone in found:
            raise StudyError(f"BACKBONES={text}: {backbone} stands twice")
        if given and not Path(path).expanduser().is_file():
            raise StudyError(
                f"BACKBONES={text}: {path or 'the file after ='}: no such file of weights"
            )
        found[backbone] = path if given else None
    if not found:
        raise StudyError(
            f"BACKBONES={text}: names no backbone; give some, such as 'resnet18 torchvision/mobilenet_v2'"
        )
    return list(found.items())


def configuration(base, photos, name, sizes, backbones=None):
    """The configuration for somebody's photographs, as plain values.

    ``base``: content of config/quick.yaml; ``name``: of data set and results folder; ``sizes``: see
    `class_sizes`; ``backbones``: see `backbones_of`, None for those of ``base``.
    """
    config = copy.deepcopy(base)
    config["results_dir"] = f"results/quick/{name}"
    config["dataset"] = {
        "name": name,
        "format": "folders",
        "source": str(Path(photos).expanduser()),
        "classes": len(sizes),
        "images": sum(sizes.values()),
        # Those of the published study's archive.
        "md5": None,
        "bytes": None,
    }
    config["protocol"] |= {
        "unseen_classes": unseen_classes(sizes),
        "test_share": test_share(sizes),
    }
    if backbones is not None:
        first, known = config["baseline"], config["experiments"]
        config["experiments"] = {first: known[first]}
        config["only"] = []
        for backbone, weights in backbones:
            experiment = f"frozen_{registry.backbone_file_name(backbone)}"
            entry = {"like": first, "backbone": backbone}
            if weights is not None:
                own = config.setdefault("initializers", {}).setdefault(
                    OWN_WEIGHTS, {"kind": "file", "label": "weights of a local file", "weights": {}}
                )
                own["weights"][backbone] = str(Path(weights).expanduser())
                entry["initializer"] = OWN_WEIGHTS
            config["experiments"][experiment] = entry
            config["only"].append(experiment)
        config["baseline"] = config["only"][0]
    return config


def training_configuration(study, experiment):
    """A study that trains on the photographs, from the features of an experiment: plain values.

    Two trainings: a head on the frozen features, in seconds, and the whole network.
    """
    config, entry = study.config, study.experiments[experiment]
    backbone, start = entry["backbone"], entry["initializer"]
    whole, head = f"ArcFace_{experiment.removeprefix('frozen_')}", f"ArcFace_head_on_{experiment}"
    values = {
        "results_dir": f"{config['results_dir']}/trained",
        "dataset": config["dataset"],
        "device": config["device"],
        # The same photographs are tested as on the page. Trainings of five draws would take five times as long.
        "protocol": config["protocol"] | {"unseen_draws": 0},
        "experiments": {
            whole: {
                "like": "ArcFace_cosine_resnet18_sgd_aug",
                "backbone": backbone,
                "initializer": start,
                "epochs": 10,
                "batch_size": 32,
                "optimizer": {"kind": "adam", "lr": 0.0001},
                "loss_lr": 0.01,
                "schedule": {"kind": "cosine"},
                "unsourced": ["optimizer.lr", "loss_lr", "schedule.kind"],
            },
            head: {
                "like": whole,
                "backbone_trains": False,
                "optimizer": {"lr": 0.001},
                "epochs": 50,
                "eval_every": 10,
            },
        },
        "only": [whole, head],
        "baseline": whole,
        "untrained": {"backbones": [backbone], "initializer": start},
        "tracking": {"mode": "disabled"},
    }
    values["initializers"] = {start: config["initializers"][start]}
    return values


def facts(study, configfiles):
    """What the page says of a study beside its tables; ``configfiles``: as given to Snakemake."""
    protocol = study.config["protocol"]
    return {
        "name": study.name,
        "results": study.config["results_dir"],
        "configfiles": configfiles,
        "features": wording.unfitted(study),
        "seed": study.seeds[0],
        "draws": len(study.limited),
        "unseen_classes": protocol["unseen_classes"],
        "threads": protocol["compute_threads"],
        "training": {name: training_configuration(study, name) for name in study.unfitted},
    }
