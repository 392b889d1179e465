"""The memory that rules request is what their programs need, and not many times as much."""

import memory_requests as measured
import pandas as pd
import pytest
from PIL import Image
from rule_programs import MeasuredStudy
from test_projection import study_of

from dmlstudy.compute.memory import footprint
from dmlstudy.data.dataset import write_csv
from dmlstudy.plan import memory_requests as requests
from dmlstudy.plan.backbones import Describer
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.recipe_factory import make_recipe
from dmlstudy.plan.rule_memory import RuleMemory

BASELINE = "EPSHN_cosine_resnet18_sgd_aug"
RESNET50 = "EPSHN_cosine_resnet50_sgd_aug"
LARGE = requests.Data(56_590, 11_318)


@pytest.mark.parametrize(
    ("backbone", "size", "batch"),
    [("resnet18", 32, 8), ("resnet18", 64, 48), ("resnet50", 32, 32)],
)
def test_training_stays_below_its_request(tmp_path, backbone, size, batch):
    """Would catch a job that a cluster kills, or that asks for a machine that it does not need."""
    asked, peak = measured.training(tmp_path, backbone, size, batch, {})
    assert peak < asked < 2.5 * peak


def test_tables_stay_below_their_requests(tmp_path, monkeypatch):
    """Would catch an evaluation or a page that needs more than its rule requests."""
    # Reading images elsewhere in this process may have set a small limit.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    images, classes, dim = 4000, 400, 512
    study = MeasuredStudy(
        tmp_path,
        [f"class {number}" for number in range(classes)],
        images,
        40,
        {"one": 0.6},
        dim=dim,
    )
    study.thumbnails()
    study.evaluate()
    data = requests.Data(images, classes)
    asked = requests.evaluation(data, 2, dim)
    assert study.peak("evaluate.py") < asked < 3 * study.peak("evaluate.py")
    asked = requests.thumbnails(data, requests.THUMBNAIL)
    assert study.peak("make_thumbnails.py") < asked < 3 * study.peak("make_thumbnails.py")


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_known_footprints_are_not_too_small(backbone):
    """Would catch facts of the study's own networks that no longer are those of the networks."""
    for size in (17, 32, 50, 112, 224, 230):
        real = footprint(backbone, size)
        known = Describer()([backbone], size)[backbone]["footprint"]
        assert known["weights"] == real.weights
        most = 1.1 if size % 16 == 0 else 3.5
        assert real.kept <= known["kept"] < most * real.kept
        assert real.live <= known["live"] < most * real.live


def test_other_backbones_say_what_they_need(tmp_path, sharing):
    """Would catch a request for a network that nobody measured."""
    name = "torchvision/mobilenet_v3_small"
    with sharing():
        facts = Describer(tmp_path / "m.json")([name], 32)[name]
    assert facts["footprint"] == footprint(name, 32)._asdict()
    recipe = make_recipe(backbone=name, image_size=32, batch_size=8)
    assert requests.training(recipe, facts, LARGE, 0, on_gpu=False) > requests.TORCH


def needs(study, results="nowhere", *, on_gpu=False):
    return RuleMemory(study, Layout(str(results), study, by_digest=str), on_gpu=on_gpu)


def test_trainings_request_what_their_recipe_needs():
    """Would catch one number for all networks, image sizes, batches and devices."""
    need = needs(study_of(device="cpu"))
    # An activation of ResNet50 takes 86 MB per image, with its gradient half as much again.
    mapped = requests.packs(need.data("cub200_2011"), ["shorter246", "shorter224"])
    assert 1.5 * 86 * 128 < need.run(RESNET50) - mapped < 20_000
    assert need.run(BASELINE) < need.run(RESNET50)
    assert need.initializer("simclr", "resnet18") > need.initializer("classifier", "resnet18")
    # Untrained rows only embed.
    assert need.run("imagenet_resnet50") < 0.5 * need.run(RESNET50)
    small = needs(study_of(protocol={"image_size": 112, "batch_size": 32}))
    assert small.run(RESNET50) < 0.5 * need.run(RESNET50)
    assert needs(study_of(), on_gpu=True).run(RESNET50) < need.run(RESNET50)


def test_heads_request_little():
    """Would catch a head on stored features that asks for the memory of a backbone's training."""
    study = study_of(
        experiments={"head": {"like": RESNET50, "backbone_trains": False}}, device="cpu"
    )
    need = needs(study)
    (name,) = Layout("nowhere", study, by_digest=str).feature_sets()
    vectors = 4 * 12_000 * 2048 / requests.MB
    assert requests.TORCH + 2 * vectors < need.run("head") < 0.5 * need.run(RESNET50)
    assert requests.TORCH + vectors < need.features(name) <= need.run("imagenet_resnet50")
    assert needs(study, on_gpu=True).features(name) > requests.CUDA


def test_candidates_count_as_the_largest():
    """Would catch a run whose chosen value needs more than its entry says."""
    study = study_of("config/extended.yaml")
    need = needs(study)
    name = next(iter(study.candidates))
    tried = [need.candidate(name, candidate) for candidate in study.candidates[name]]
    assert need.run(name) >= max(tried)


def test_data_set_is_counted_once_it_is_listed(tmp_path):
    """Would catch a request for 12,000 images when 56,590 have been found, or a file read before it exists."""
    study = study_of(dataset={"name": "mine", "source": "pics", "md5": None, "classes": None})
    need = needs(study, tmp_path)
    before = need.data("mine")
    assert before.images == requests.UNKNOWN_IMAGES
    table = {"image_id": 0, "class_id": [0, 1, 1] * 20_000, "width": 4000, "height": 3000}
    (tmp_path / "data/mine").mkdir(parents=True)
    write_csv(tmp_path / "data/mine/manifest.csv", pd.DataFrame(table))
    assert need.data("mine") == (60_000, 2, 12.0)
    for rule in ("evaluate", "map", "explain", "gallery"):
        assert getattr(need, rule)(BASELINE) > getattr(needs(study), rule)(BASELINE)
    pack = tmp_path / "data/mine/pack_shorter224/pixels.bin"
    pack.parent.mkdir()
    with open(pack, "wb") as stream:
        stream.truncate(7 * requests.MB)
    assert need._packs("mine", ["shorter224"]) == 7
    drawn = study_of("config/demo.yaml")
    assert needs(drawn).data(drawn.name).images == 1200


def test_large_data_sets_request_more_but_not_everything():
    """Would catch constants, and requests that no machine can meet."""
    small = requests.Data(1000, 50)
    for request in (
        lambda data: requests.evaluation(data, 2, 128),
        lambda data: requests.mapping(data, 128),
        lambda data: requests.comparison(data, 18, 2),
        lambda data: requests.report(data, 2),
        lambda data: requests.thumbnails(data, requests.THUMBNAIL),
        lambda data: requests.listing(data, 2, 10**8),
        requests.tables,
    ):
        assert request(small) < request(LARGE) < 8000
    # The sprite of all thumbnails has an end.
    more = [requests.thumbnails(requests.Data(images, 200), 40) for images in (150_000, 1_000_000)]
    assert more[0] == more[1] > requests.thumbnails(small, 40)
    mapped = requests.packs(LARGE, ["shorter246", "shorter224"])
    assert 20_000 < mapped < requests.MAPPED_LIMIT
    assert requests.packs(LARGE, ["squash224"]) < requests.packs(LARGE, ["shorter224"])
