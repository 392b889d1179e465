"""Layouts of published data sets: what is read, beside other libraries' loaders, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import LAYOUTS, cells, draw, structures, write
from scipy.io import loadmat, savemat
from torchvision import datasets as torchvision_datasets

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.data.dataset import BOX, make_split
from dmlstudy.data.listing import left_out, list_rows
from dmlstudy.data.manifest import make_manifest
from dmlstudy.data.problems import find_problems
from dmlstudy.plan.sources import read_yaml

BY_NAME = Path(__file__).resolve().parents[2] / "config" / "datasets"


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    """A function that writes a miniature once: (folder, what must be found). Not to be changed."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = folder, LAYOUTS[name][1](folder)
        return made[name]

    return make


def listed(folder, data_format):
    """{path: (class name, box, official part)} of a data set."""
    names, rows = list_rows(folder, data_format)
    return {row["path"]: (names[row["class_id"]], row["box"], row["official_part"]) for row in rows}


@pytest.mark.parametrize("name", LAYOUTS)
def test_official_layout_is_read(miniature, name):
    """Would catch a wrong label, part or box, an image that is lost, or one that is not there."""
    folder, expected = miniature(name)
    data_format = LAYOUTS[name][0]
    assert listed(folder, data_format) == expected
    manifest = make_manifest(folder, data_format, max_pixels=10_000)
    assert sorted(manifest["path"]) == sorted(expected)
    boxes = [box for _, box, _ in expected.values() if box]
    assert (set(BOX) <= set(manifest)) == bool(boxes)
    if boxes:
        assert manifest[BOX].dropna().sum().sum() == np.sum(boxes)
    assert ("official_part" in manifest) == all(part for _, _, part in expected.values())


def of_torchvision(dataset, folder, images="_image_files"):
    """{path: class id} of one of torchvision's data sets."""
    paths = getattr(dataset, images)
    labels = dataset._labels
    return {
        str(path).removeprefix(f"{folder}/"): label
        for path, label in zip(paths, labels, strict=True)
    }


def ours(folder, data_format):
    """{path: class id} of each part."""
    _, rows = list_rows(folder, data_format)
    found = {}
    for row in rows:
        found.setdefault(row["official_part"], {})[row["path"]] = row["class_id"]
    return found


def test_flowers_as_torchvision_reads_them(miniature, tmp_path, monkeypatch):
    """Would catch another order of classes or another split, or a class with another one's name."""
    folder, _ = miniature("flowers102")
    (tmp_path / "flowers-102").symlink_to(folder)
    theirs = torchvision_datasets.Flowers102
    # Its checksums are those of the real labels.
    monkeypatch.setattr(theirs, "_check_integrity", lambda self: True)
    for part, split in (("train", "train"), ("validation", "val"), ("test", "test")):
        expected = of_torchvision(theirs(tmp_path, split=split), tmp_path / "flowers-102")
        assert ours(folder, "flowers102")[part] == expected
    assert list_rows(folder, "flowers102")[0] == list(theirs.classes)


def test_pets_as_torchvision_reads_them(miniature, tmp_path):
    """Would catch another order of classes, another split, or a class with another one's name."""
    folder, _ = miniature("pets")
    (tmp_path / "oxford-iiit-pet").symlink_to(folder)
    for part, split in (("train", "trainval"), ("test", "test")):
        theirs = torchvision_datasets.OxfordIIITPet(tmp_path, split=split)
        expected = of_torchvision(theirs, tmp_path / "oxford-iiit-pet", "_images")
        assert ours(folder, "pets")[part] == expected
        names = list_rows(folder, "pets")[0]
        assert [name.replace("_", " ").title() for name in names] == theirs.classes


def test_aircraft_as_torchvision_reads_them(miniature):
    """Would catch another order of variants, another split, or a name with a blank that is cut."""
    folder, _ = miniature("aircraft")
    for part, split in (("train", "train"), ("validation", "val"), ("test", "test")):
        theirs = torchvision_datasets.FGVCAircraft(folder, split=split)
        assert ours(folder, "aircraft")[part] == of_torchvision(theirs, folder)
        assert list_rows(folder, "aircraft")[0] == theirs.classes


def test_food_as_torchvision_reads_it(miniature):
    """Would catch another order of classes or another split."""
    folder, _ = miniature("food101")
    for part in ("train", "test"):
        theirs = torchvision_datasets.Food101(folder, split=part)
        assert ours(folder, "food101")[part] == of_torchvision(theirs, folder)
        assert list_rows(folder, "food101")[0] == theirs.classes


def test_cars_as_torchvision_reads_them(miniature):
    """Would catch labels that are off by one, or training images taken for test images."""
    folder, _ = miniature("cars196_kit")
    for part in ("train", "test"):
        theirs = torchvision_datasets.StanfordCars(folder, split=part)
        expected = {path.removeprefix(f"{folder}/"): label for path, label in theirs._samples}
        assert ours(folder, "cars196")[part] == expected
        assert list_rows(folder, "cars196")[0] == list(theirs.classes)


@pytest.mark.parametrize(
    ("name", "loader", "inner"),
    [
        ("cub", "CUB", ""),
        ("cars196_by_class", "Cars196", ""),
        ("online_products", "StanfordOnlineProducts", ""),
    ],
)
def test_as_pytorch_metric_learning_reads_it(miniature, name, loader, inner):
    """Would catch images or labels that differ from those of published models of metric learning."""
    from pytorch_metric_learning import datasets as loaders

    folder, _ = miniature(name)
    theirs = getattr(loaders, loader)(root=str(folder), split="train+test")
    _, rows = list_rows(folder, LAYOUTS[name][0])
    # Their labels count from 1.
    expected = {
        path.removeprefix(f"{folder}/"): label - 1
        for path, label in zip(theirs.paths, theirs.labels, strict=True)
    }
    assert {row["path"]: row["class_id"] for row in rows} == expected


def test_last_classes_are_the_published_test_classes(miniature):
    """Would catch limited models that have seen a product or item of the published test list."""
    folder, _ = miniature("online_products")
    names = list_rows(folder, "online_products")[0]
    assert [int(name.split()[-1]) for name in names] == [1, 2, 3, 4, 5, 6, 7, 8]
    folder, _ = miniature("inshop")
    names = list_rows(folder, "inshop")[0]
    assert [int(name.removeprefix("id_")) for name in names] == [2, 5, 1, 3, 4]


def test_what_a_format_leaves_out_is_named(miniature, tmp_path):
    """Would catch images that vanish without a word: the only one of its class, or one that is gone."""
    folder, _ = miniature("inshop")
    _, rows = list_rows(folder, "inshop")
    found = {one.path: one.reason for one in left_out(folder, "inshop", rows)}
    assert found == {
        "img/WOMEN/Dresses/id_00000009/01_1_front.jpg": (
            "is the only image of id_00000009; a split needs two"
        )
    }
    folder, _ = miniature("hotels50k")
    _, rows = list_rows(folder, "hotels50k")
    found = {one.path: one.reason for one in left_out(folder, "hotels50k", rows)}
    assert found["images/train/2/11/travel_website/110.jpg"].startswith("is the only image of Old")
    assert found["images/train"].startswith("lacks 3 image(s) of the table: ")
    assert len(found) == 2


def test_every_part_has_an_image_of_each_class_if_half_are_queries():
    """Would catch a test_share with which products that have two photographs are refused."""
    counts = np.random.default_rng(0).integers(2, 13, 2000)
    counts[0] += 1 - counts.sum() % 2
    ids = np.repeat(np.arange(len(counts)), counts)
    manifest = pd.DataFrame({"image_id": range(len(ids)), "class_id": ids, "class_name": ids})
    # `make_split` raises for a class that has no image in one part.
    make_split(manifest, method="stratified", test_share=0.5, seed=42)
    with pytest.raises(StudyError, match="none in the test part"):
        make_split(manifest, method="stratified", test_share=0.2, seed=42)


# What is wrong: (layout, change of the folder, words of the message).


def remove(name):
    return lambda folder: (folder / name).unlink()


def replace(name, old, new):
    def change(folder):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def labels(value, index=7):
    def change(folder):
        path = folder / "imagelabels.mat"
        found = loadmat(path)["labels"].astype(np.int32)
        found[0, index] = value
        savemat(path, {"labels": found})

    return change


def parts(**changes):
    def change(folder):
        path = folder / "setid.mat"
        found = {key: loadmat(path)[key] for key in ("trnid", "valid", "tstid")}
        savemat(path, {key: changes.get(key, lambda x: x)(value) for key, value in found.items()})

    return change


def damaged(name):
    def change(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:150])

    return change


def matlab(name, **variables):
    return lambda folder: savemat(folder / name, variables)


def first_car(**changes):
    """The authors' list with one entry, which is changed."""
    entry = {"relative_im_path": "car_ims/000001.jpg", "class": 1, "test": 0}
    entry |= {"bbox_x1": 1, "bbox_y1": 1, "bbox_x2": 9, "bbox_y2": 9}
    entry = {key: value for key, value in {**entry, **changes}.items() if value is not None}
    return matlab("cars_annos.mat", annotations=structures([entry]), class_names=cells(["a", "b"]))


SOP, AIR = "Stanford_Online_Products/Ebay_", "fgvc-aircraft-2013b/data/"
EVAL, HOTELS = "Eval/list_eval_partition.txt", "input/dataset/"
FAULTS = {
    "flowers: no labels": (
        "flowers102",
        remove("imagelabels.mat"),
        ["expected one imagelabels.mat"],
    ),
    "flowers: no parts": ("flowers102", remove("setid.mat"), ["setid.mat: no such file"]),
    "flowers: label 0": ("flowers102", labels(0), ["image 8", "class is 0", "from 1 to 102"]),
    "flowers: label 103": ("flowers102", labels(103), ["image 8", "class is 103"]),
    "flowers: half a label": (
        "flowers102",
        matlab("imagelabels.mat", labels=[1.5]),
        ["whole numbers"],
    ),
    "flowers: other variable": (
        "flowers102",
        matlab("imagelabels.mat", x=1),
        ["'labels'", "only x"],
    ),
    "flowers: damaged": ("flowers102", damaged("imagelabels.mat"), ["cannot be read as a .mat"]),
    "flowers: text": (
        "flowers102",
        lambda folder: write(folder / "imagelabels.mat", "<html>not found</html>"),
        ["imagelabels.mat: cannot be read as a .mat"],
    ),
    "flowers: image in two parts": (
        "flowers102",
        parts(valid=lambda x: np.append(x, loadmat_first(x))),
        ["setid.mat: image", "in two parts"],
    ),
    "flowers: image in no part": (
        "flowers102",
        parts(valid=lambda x: x[:, 1:]),
        ["setid.mat: image", "in no part"],
    ),
    "flowers: unknown image": (
        "flowers102",
        parts(valid=lambda x: np.append(x, 9999)),
        ["valid names image 9999; there are 408"],
    ),
    "pets: no test list": ("pets", remove("annotations/test.txt"), ["test.txt: no such file"]),
    "pets: label 38": (
        "pets",
        replace("annotations/test.txt", " 1 1 1", " 38 1 1"),
        ["test.txt:1", "class is 38", "from 1 to 37"],
    ),
    "pets: two names of a class": (
        "pets",
        replace("annotations/test.txt", " 2 1 2", " 1 1 2"),
        ["test.txt:3", "has class 1, which is Areed_0"],
    ),
    "pets: outside": (
        "pets",
        replace("annotations/test.txt", "Areed_0_10 ", "../../Areed_0 "),
        ["test.txt:1"],
    ),
    "pets: a document type": (
        "pets",
        lambda folder: write(
            folder / "annotations/xmls/Areed_0_1.xml",
            '<!DOCTYPE a [<!ENTITY b "c">]>',
            "<a>&b;</a>",
        ),
        ["Areed_0_1.xml: holds a document type"],
    ),
    "pets: no box": (
        "pets",
        lambda folder: write(folder / "annotations/xmls/Areed_0_1.xml", "<annotation/>"),
        ["Areed_0_1.xml: has no bounding box"],
    ),
    "aircraft: no list": (
        "aircraft",
        remove(f"{AIR}images_variant_val.txt"),
        ["images_variant_val.txt: no such file"],
    ),
    "aircraft: unknown variant": (
        "aircraft",
        replace(f"{AIR}images_variant_val.txt", "707-320", "707"),
        ["images_variant_val.txt:1", "'707' is not in variants.txt"],
    ),
    "aircraft: empty box": (
        "aircraft",
        replace(f"{AIR}images_box.txt", " 2 3 10 20", " 20 3 10 20"),
        ["images_box.txt:1", "empty"],
    ),
    "aircraft: twice": (
        "aircraft",
        lambda folder: write(
            folder / f"{AIR}images_variant_val.txt",
            *(folder / f"{AIR}images_variant_test.txt").read_text().splitlines(),
        ),
        ["images_variant_test.txt:1", "listed before, at", "images_variant_val.txt:1"],
    ),
    "food: unknown dish": (
        "food101",
        replace("food-101/meta/test.txt", "apple_pie/", "apple/"),
        ["test.txt:1", "'apple' is not in classes.txt"],
    ),
    "food: no list": ("food101", remove("food-101/meta/train.txt"), ["train.txt: no such file"]),
    "cars: no table": ("cars196", remove("cars_annos.mat"), ["expected one of cars_annos.mat"]),
    "cars: label 3 of 2": ("cars196", first_car(**{"class": 3}), ["entry 1", "class is 3", "to 2"]),
    "cars: part 2": ("cars196", first_car(test=2), ["entry 1", "test is 2"]),
    "cars: no box": ("cars196", first_car(bbox_x2=None), ["entry 1", "has no bbox_x2"]),
    "cars: outside": (
        "cars196",
        first_car(relative_im_path="../../other.jpg"),
        ["entry 1", "is outside"],
    ),
    "cars: no test labels": (
        "cars196_kit",
        remove("stanford_cars/cars_test_annos_withlabels.mat"),
        ["cars_test_annos_withlabels.mat: no such file"],
    ),
    "cars: fields": (
        "cars196_by_class",
        replace("anno_test.csv", ",12,", ",12"),
        ["anno_test.csv:1", "expected image, x1"],
    ),
    "products: no test list": ("online_products", remove(f"{SOP}test.txt"), ["no such file"]),
    "products: columns": (
        "online_products",
        replace(f"{SOP}test.txt", "class_id", "klass"),
        ["Ebay_test.txt:1", "image_id class_id super_class_id path"],
    ),
    "products: class in both lists": (
        "online_products",
        replace(f"{SOP}test.txt", " 5 3 ", " 1 3 "),
        ["Ebay_test.txt:2", "class 1 is in Ebay_train.txt"],
    ),
    "inshop: rows": ("inshop", replace(EVAL, "14\n", "15\n"), ["says 15 rows, but 14 follow"]),
    "inshop: status": (
        "inshop",
        replace(EVAL, "query", "qery"),
        ["'qery'", "train, query, gallery"],
    ),
    "inshop: item in both": (
        "inshop",
        replace(EVAL, "query", "train"),
        ["is a training item and a test item"],
    ),
    "inshop: no list": ("inshop", remove(EVAL), ["expected one Eval/list_eval_partition.txt"]),
    "hotels: unknown hotel": (
        "hotels50k",
        replace(f"{HOTELS}hotel_info.csv", "10,", "12,"),
        ["train_set.csv:5", "hotel '10' is not in hotel_info.csv"],
    ),
    "hotels: no hotels": ("hotels50k", remove(f"{HOTELS}hotel_info.csv"), ["no such file"]),
}


def loadmat_first(numbers):
    """Another part's image: the miniature's training images are the first of their class."""
    return next(one for one in range(1, 409) if one not in numbers)


@pytest.mark.parametrize("fault", FAULTS)
def test_mistakes_in_tables_are_told(miniature, tmp_path, fault):
    """Would catch a traceback, a wrong label, or a mistake that is passed over."""
    name, change, words = FAULTS[fault]
    # Images are not opened before the tables are read.
    tables_only = shutil.ignore_patterns("*.jpg", "*.JPG")
    folder = shutil.copytree(miniature(name)[0], tmp_path / "data", ignore=tables_only)
    change(folder)
    with pytest.raises(StudyError) as told:
        list_rows(folder, LAYOUTS[name][0])
    for word in words:
        assert word in str(told.value)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "hotels50k"])
def test_image_that_is_not_there_is_told(miniature, tmp_path, name):
    """Would catch a list that names an image which does not exist, in the check or the manifest."""
    folder, expected = miniature(name)
    folder = shutil.copytree(folder, tmp_path / "data")
    gone = sorted(expected)[3]
    (folder / gone).unlink()
    data_format = LAYOUTS[name][0]
    with pytest.raises(StudyError, match=gone.rpartition("/")[2]):
        make_manifest(folder, data_format, max_pixels=10_000)
    split = {"method": "stratified", "test_share": 0.5, "seed": 1}
    problems, _ = find_problems(folder, data_format, max_pixels=10_000, split=split)
    assert gone in set(problems.loc[problems["kind"] == "image", "path"])


def test_image_that_no_list_names_is_told(tmp_path):
    """Would catch photographs that are left out without a word."""
    for name in ("food101", "inshop", "hotels50k"):
        folder = tmp_path / name
        LAYOUTS[name][1](folder)
        draw(folder / "more/extra.jpg")
        _, rows = list_rows(folder, name)
        assert "more" in {one.path for one in left_out(folder, name, rows)}


def test_every_format_of_the_registry_is_tried():
    """Would catch a new layout without a miniature."""
    assert {name for name, _ in LAYOUTS.values()} == set(registry.kinds("format")) - {
        "csv",
        "folders",
    }


def test_addresses_and_checksums_are_those_of_other_loaders():
    """Would catch a slip in an address or a checksum, which would only show on a real download."""
    from pytorch_metric_learning import datasets as loaders

    theirs = torchvision_datasets
    entries = {path.stem: read_yaml(path)["dataset"] for path in BY_NAME.glob("*.yaml")}
    flowers = entries["flowers102"]["files"]
    assert {name: file["md5"] for name, file in flowers.items()} == dict(
        theirs.Flowers102._file_dict.values()
    )
    prefix = theirs.Flowers102._download_url_prefix
    assert {file["source"] for file in flowers.values()} == {prefix + name for name in flowers}
    pets = entries["pets"]["files"].values()
    assert {(file["source"], file["md5"]) for file in pets} == set(theirs.OxfordIIITPet._RESOURCES)
    food = entries["food101"]
    assert (food["source"], food["md5"]) == (theirs.Food101._URL, theirs.Food101._MD5)
    assert entries["aircraft"]["source"] == theirs.FGVCAircraft._URL
    assert entries["cub200_2011"]["source"] == loaders.CUB.DOWNLOAD_URL
    assert entries["cars196"]["source"] == loaders.Cars196.DOWNLOAD_URL
    assert loaders.StanfordOnlineProducts.DOWNLOAD_URL in entries["online_products"]["source"]
