"""Manifest, split, class sets, data formats, and untrusted archives."""

import gzip
import io
import os
import random
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import MAX_PIXELS
from PIL import Image
from sklearn.model_selection import train_test_split

from dmlstudy.core.files import StudyError
from dmlstudy.data import archives
from dmlstudy.data.archives import extract
from dmlstudy.data.dataset import (
    Dataset,
    duplicates,
    make_class_set,
    make_split,
    read_manifest,
    write_csv,
)
from dmlstudy.data.manifest import make_manifest
from dmlstudy.data.problems import find_problems
from dmlstudy.plan.fingerprint import fingerprint


def manifest_with(counts):
    """A manifest without image files; ``counts``: number of images of each class."""
    class_ids = np.repeat(np.arange(len(counts)), counts)
    return pd.DataFrame(
        {
            "image_id": range(len(class_ids)),
            "class_id": class_ids,
            "class_name": [f"{index + 1:03}.Bird" for index in class_ids],
        }
    )


def split_of(manifest, **changes):
    options = {"method": "stratified", "test_share": 0.2, "seed": 42}
    return make_split(manifest, **{**options, **changes})


# 200 classes of 41 to 60 images, 11,788 in all: CUB's size.
CUB = [60] * 101 + [41] + [58] * 95 + [59] * 3


def test_split_of_cub_equals_scikit_learn():
    """Would catch another split than the study's 9,430 training and 2,358 test images."""
    manifest = manifest_with(CUB)
    split = split_of(manifest)
    assert split["part"].value_counts().to_dict() == {"train": 9430, "test": 2358}
    train, test = train_test_split(
        np.arange(11788), test_size=0.2, random_state=42, stratify=manifest["class_id"]
    )
    assert split.loc[split["part"] == "test", "image_id"].tolist() == sorted(test)
    assert split.loc[split["part"] == "train", "image_id"].tolist() == sorted(train)


def test_split_is_stratified():
    """Would catch a split that is not stratified, which leaves some classes with few test images."""
    manifest = manifest_with(CUB)
    test = manifest.loc[split_of(manifest)["part"] == "test", "class_id"]
    shares = np.bincount(test, minlength=200) - 0.2 * np.array(CUB)
    assert np.abs(shares).max() <= 1


def test_split_follows_its_seed():
    """Would catch a seed that is not used, or a generator with state."""
    manifest = manifest_with([10] * 5)
    parts = [split_of(manifest, seed=seed)["part"].tolist() for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


def test_official_split_is_the_data_sets_own():
    """Would catch the official parts shuffled, or a stratified split in their place."""
    manifest = manifest_with([4, 4])
    with pytest.raises(StudyError, match="official"):
        split_of(manifest, method="official")
    manifest["official_part"] = ["train", "test", "test", "train"] * 2
    parts = split_of(manifest, method="official")["part"].tolist()
    assert parts == manifest["official_part"].tolist()


def test_class_with_one_image_is_named():
    """Would catch scikit-learn's error, which does not say which class it means."""
    with pytest.raises(StudyError, match=r"003\.Bird.* has 1 image"):
        split_of(manifest_with([5, 5, 1, 5]))


def test_class_that_lacks_a_part_is_named():
    """Would catch a class without a single query, whose precision would be empty."""
    with pytest.raises(StudyError, match=r"00[2-9]\.Bird.*but none in the test part"):
        split_of(manifest_with([90] + [2] * 8), test_share=0.1)


# Class sets.


def test_class_sets():
    """Would catch 21 classes left out instead of 20, the first instead of the last, or gaps in labels."""
    every = make_class_set(6, "all_classes", unseen=0)
    limited = make_class_set(6, "limited_classes", unseen=2)
    assert set(limited["class_set"]) == {"limited_classes"}
    assert every["class_id"].tolist() == limited["class_id"].tolist() == list(range(6))
    assert every["label"].tolist() == list(range(6))
    assert every["seen"].tolist() == [1] * 6
    assert limited["label"].tolist() == [0, 1, 2, 3, -1, -1]
    assert limited["seen"].tolist() == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("unseen", [6, 7, -1])
def test_too_many_unseen_classes_are_refused(unseen):
    """Would catch a limited model with nothing to train on."""
    with pytest.raises(StudyError, match=f"cannot leave out {unseen} of 6"):
        make_class_set(6, "limited_classes", unseen=unseen)


def test_drawn_class_sets():
    """Would catch draws that are all equal, ignore the seed, or number seen classes with gaps."""
    first, again, second = (
        make_class_set(50, "limited_classes_1", unseen=10, seed=seed)
        for seed in ([42, 1], [42, 1], [42, 2])
    )
    assert first.equals(again)
    assert not first["seen"].equals(second["seen"])
    for table in (first, second):
        seen = table[table["seen"] == 1]
        assert len(seen) == 40
        assert seen["label"].tolist() == list(range(40))
        assert set(table.loc[table["seen"] == 0, "label"]) == {-1}
    assert first.loc[first["seen"] == 0, "class_id"].tolist() != list(range(40, 50))


def test_dataset_joins_its_tables():
    """Would catch unseen classes among the training images, or labels of another class."""
    manifest = manifest_with([5, 5, 5])
    split = split_of(manifest).sample(frac=1, random_state=0)
    class_set = make_class_set(3, "limited_classes", unseen=1)
    dataset = Dataset(manifest, split, class_set)
    assert dataset.class_set == "limited_classes"
    assert dataset.class_names == ["001.Bird", "002.Bird", "003.Bird"]
    assert (dataset.seen.tolist(), dataset.num_seen) == ([True, True, False], 2)
    parts = split.set_index("image_id")["part"]
    for part in ("train", "test"):
        expected = [i for i in range(15) if parts[i] == part]
        assert dataset.images(part).tolist() == expected
        assert dataset.images(part, seen_only=True).tolist() == [i for i in expected if i < 10]
    assert dataset.labels.tolist() == [0] * 5 + [1] * 5 + [-1] * 5
    with pytest.raises(StudyError, match="same classes"):
        Dataset(manifest, split, class_set.iloc[1:])
    with pytest.raises(StudyError, match="same images"):
        Dataset(manifest, split.iloc[1:], class_set)


# Formats.


def write_image(path, size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


CUB_FILES = {
    "classes.txt": "1 001.Albatross\n2 002.Bunting\n",
    "images.txt": "1 001.Albatross/b.png\n2 001.Albatross/a 1.png\n3 002.Bunting/c.png\n",
    "image_class_labels.txt": "1 1\n2 1\n3 2\n",
    "bounding_boxes.txt": "1 1.0 2.0 3.0 2.0\n2 0.0 0.0 6.0 4.0\n3 1.5 1.0 2.0 2.0\n",
    "train_test_split.txt": "1 0\n2 1\n3 1\n",
}


def cub_folder(root, **changes):
    """A folder in CUB's layout; ``changes``: file (without .txt) → text, or None for no file."""
    for name in ("001.Albatross/b.png", "001.Albatross/a 1.png", "002.Bunting/c.png"):
        write_image(root / "images" / name)
    for name, text in CUB_FILES.items():
        text = changes.get(name.removesuffix(".txt"), text)
        if text is not None:
            (root / name).write_text(text)
    return root


def manifest_from(folder, data_format="cub", **options):
    return make_manifest(folder, data_format, max_pixels=MAX_PIXELS, **options)


def test_cub(tmp_path):
    """Would catch rows of the files matched by line instead of by id."""
    shuffled = {
        name.removesuffix(".txt"): "\n".join(reversed(text.splitlines()))
        for name, text in CUB_FILES.items()
    }
    expected = None
    for folder in (
        cub_folder(tmp_path / "plain"),
        cub_folder(tmp_path / "outer" / "CUB_200_2011", **shuffled),
    ):
        table = manifest_from(tmp_path / folder.relative_to(tmp_path).parts[0])
        table["path"] = table["path"].str.removeprefix("CUB_200_2011/")
        assert table["path"].tolist() == [
            "images/001.Albatross/a 1.png",
            "images/001.Albatross/b.png",
            "images/002.Bunting/c.png",
        ]
        assert table["class_id"].tolist() == [0, 0, 1]
        assert table["class_name"].tolist() == ["001.Albatross", "001.Albatross", "002.Bunting"]
        assert table[["width", "height"]].to_numpy().tolist() == [[6, 4]] * 3
        assert table["box_x"].tolist() == [0.0, 1.0, 1.5]
        assert table["box_height"].tolist() == [4.0, 2.0, 2.0]
        assert table["official_part"].tolist() == ["train", "test", "train"]
        assert expected is None or table.equals(expected)
        expected = table


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": CUB_FILES["images.txt"] + "3 002.Bunting/c.png\n"}, r"images\.txt:4: id 3"),
        ({"bounding_boxes": "1 1 1 1 1\n3 1 1 1 1\n"}, r"bounding_boxes\.txt: no row for image 2"),
        ({"classes": "1 A\n1 B\n"}, r"classes\.txt:2: id 1 appears twice"),
        ({"image_class_labels": "1 1\n2 1\n2 2\n"}, r"image_class_labels\.txt:3: id 2"),
        (
            {"bounding_boxes": CUB_FILES["bounding_boxes.txt"] + "3 1 1 1 1\n"},
            r"bounding_boxes\.txt:4: id 3",
        ),
        ({"bounding_boxes": "1 1 1 1\n"}, r"bounding_boxes\.txt:1: expected 5 columns"),
        (
            {"bounding_boxes": "1 1 1 1 1\n2 1 x 1 1\n3 1 1 1 1\n"},
            r"bounding_boxes\.txt:2: .*are not four numbers",
        ),
        (
            {"bounding_boxes": "1 1 1 1 1\n2 1 nan 1 1\n3 1 1 1 1\n"},
            r"bounding_boxes\.txt:2: .*are not four numbers",
        ),
        ({"image_class_labels": "1 1\n2 1\n"}, r"image_class_labels\.txt: no row for image 3"),
        ({"image_class_labels": "1 1\n2 1\n3 9\n"}, r"labels\.txt:3: image 3 has class 9"),
        ({"image_class_labels": "1 1\n2 1\n3 x\n"}, r"labels\.txt:3: image 3 has class x"),
        ({"train_test_split": "1 1\n"}, r"train_test_split\.txt: no row for image 2"),
        (
            {
                "images": CUB_FILES["images.txt"] + "4 001.Albatross/z.png\n",
                "bounding_boxes": None,
                "train_test_split": None,
                "image_class_labels": "1 1\n2 1\n3 2\n4 1\n",
            },
            r"001\.Albatross/z\.png: no such file, but the data set lists it",
        ),
        ({"classes": CUB_FILES["classes.txt"] + "3 Empty\n"}, "class 'Empty' has no images"),
        ({"images": "1 ../classes.txt\n"}, r"images\.txt:1: image 1 is outside"),
        ({"images": "1 /etc/passwd\n"}, r"images\.txt:1: image 1 is outside"),
        ({"images": None}, r"images\.txt"),
        ({"classes": None}, r"classes\.txt: no such file"),
        ({"classes": "1 Same\n2 Same\n"}, r"two classes have the name 'Same'"),
    ],
)
def test_mistakes_in_cub_are_named(tmp_path, changes, words):
    """Would catch a data set with rows that are missing, duplicated or point elsewhere."""
    with pytest.raises(StudyError, match=words):
        manifest_from(cub_folder(tmp_path, **changes))


def test_wrong_number_of_classes_is_refused(tmp_path):
    """Would catch an incomplete data set accepted as complete."""
    with pytest.raises(StudyError, match=r"2 classes, but dataset\.classes says 200"):
        manifest_from(cub_folder(tmp_path), classes=200)


def test_folders(tmp_path):
    """Would catch images in subfolders lost, or other and hidden files included."""
    for name in ("b/2.png", "b/deep/1.PNG", "a/x.png", "a/y.png", "a/._x.png", ".hidden/h.png"):
        write_image(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "README.txt").write_text("no class")
    table = manifest_from(tmp_path, "folders")
    assert table["path"].tolist() == ["a/x.png", "a/y.png", "b/2.png", "b/deep/1.PNG"]
    assert table["class_name"].tolist() == ["a", "a", "b", "b"]
    assert "box_x" not in table
    assert "official_part" not in table


def test_single_outer_folder_is_stepped_into(tmp_path):
    """Would catch the outer folder of an archive taken for the only class."""
    write_image(tmp_path / "birds" / "a" / "1.png")
    write_image(tmp_path / "birds" / "b" / "2.png")
    write_image(tmp_path / "__MACOSX" / "a" / "3.png")
    table = manifest_from(tmp_path, "folders")
    assert table["class_name"].tolist() == ["a", "b"]
    assert table["path"].tolist() == ["birds/a/1.png", "birds/b/2.png"]


def test_folder_without_images_is_named(tmp_path):
    """Would catch a class that silently does not exist."""
    with pytest.raises(StudyError, match="one folder per class"):
        manifest_from(tmp_path, "folders")
    write_image(tmp_path / "a" / "1.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="class 'empty' has no images"):
        manifest_from(tmp_path, "folders")


@pytest.mark.parametrize("parts", [("train", "test"), ("Train", "val", "test")])
def test_folders_of_parts_are_not_taken_for_classes(tmp_path, parts):
    """Would catch the parts of a split taken for classes."""
    for part in parts:
        write_image(tmp_path / part / "a" / "1.png")
    with pytest.raises(StudyError, match="look like parts of a split"):
        manifest_from(tmp_path, "folders")


@pytest.mark.parametrize("name", ["caf\udce9.png", "a\rb.png", "a\nb.png"])
def test_names_that_no_table_can_hold_are_refused_in_words(tmp_path, name):
    """Would catch a traceback for a name that is not UTF-8, or a table that a name breaks."""
    write_image(tmp_path / "x" / "1.png")
    write_image(tmp_path / "y" / "1.png")
    os.rename(tmp_path / "y" / "1.png", tmp_path / "y" / name)
    with pytest.raises(StudyError, match="control character or is not UTF-8; rename it") as error:
        manifest_from(tmp_path, "folders")
    str(error.value).encode()
    problems, _ = check(tmp_path)
    assert problems["problem"].str.contains("rename it").any()
    # Planning reads the folder before the names are checked.
    assert fingerprint(tmp_path, tmp_path.parent / "memory.json")


def test_order_of_files_on_disk_does_not_matter(tmp_path, monkeypatch):
    """Would catch a split that depends on the file system, as the published one does."""
    for class_name in "cab":
        for index in (3, 0, 2, 1, 4):
            write_image(tmp_path / class_name / f"{index}.png")
    before = manifest_from(tmp_path, "folders")
    draw = random.Random(0)
    for name in ("iterdir", "rglob"):
        listed = getattr(Path, name)

        def shuffled(self, *args, listed=listed):
            entries = list(listed(self, *args))
            draw.shuffle(entries)
            return entries

        monkeypatch.setattr(Path, name, shuffled)
    for _ in range(3):
        again = manifest_from(tmp_path, "folders", threads=2)
        assert again.equals(before)
        assert split_of(again).equals(split_of(before))


@pytest.mark.parametrize("name", ["NA", "nan", "null", "007", "1.0", "True", 'a,"b"', "É"])
def test_class_names_survive(tmp_path, name):
    """Would catch a class called NA read as a missing value, or 007 as a number."""
    write_image(tmp_path / "images" / name / "1.png")
    write_image(tmp_path / "images" / "other" / "1.png")
    table = manifest_from(tmp_path / "images", "folders")
    write_csv(tmp_path / "manifest.csv", table)
    again = read_manifest(tmp_path / "manifest.csv")
    assert sorted(again["class_name"]) == sorted([name, "other"])
    assert again.to_dict() == table.to_dict()


def test_layout_of_cub_at_its_size(tmp_path):
    """Would catch lost images or wrong class counts at the size of the real data set."""
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "a.png", (1, 1))
    images, labels, official = [], [], []
    for class_id, count in enumerate(CUB, 1):
        name = f"{class_id:03}.Bird"
        (tmp_path / "images" / name).mkdir()
        for index in range(count):
            key = len(images) + 1
            images.append(f"{key} {name}/{index:04}.png")
            labels.append(f"{key} {class_id}")
            official.append(f"{key} {int(index < 30)}")
            os.link(tmp_path / "a.png", tmp_path / "images" / name / f"{index:04}.png")
    for name, lines in {
        "classes": [f"{index} {index:03}.Bird" for index in range(1, 201)],
        "images": images,
        "image_class_labels": labels,
        "train_test_split": official,
    }.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    manifest = manifest_from(tmp_path, classes=200)
    assert len(manifest) == 11788
    assert manifest["class_name"].nunique() == manifest["class_id"].max() + 1 == 200
    split = split_of(manifest)
    assert split["part"].value_counts().to_dict() == {"train": 9430, "test": 2358}
    own = split_of(manifest, method="official")
    assert own["part"].value_counts().to_dict() == {"train": 6000, "test": 5788}


# A table of paths and labels.


def csv_folder(root, text, name="photos.csv", paths=("a.png", "b.png", "in/c.png", "d.png")):
    for path in paths:
        write_image(root / path)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    return root


TABLE = "path,label\nd.png,wren\na.png,owl\nin/c.png,wren\nb.png,owl\n"


@pytest.mark.parametrize("text", [TABLE, "\ufeff" + TABLE, TABLE.replace("\n", "\r\n") + "\r\n"])
def test_csv(tmp_path, text):
    """Would catch rows in the wrong order, or the table of a spreadsheet that cannot be read."""
    table = manifest_from(csv_folder(tmp_path, text), "csv")
    assert table["path"].tolist() == ["a.png", "b.png", "d.png", "in/c.png"]
    assert table["class_name"].tolist() == ["owl", "owl", "wren", "wren"]
    assert table["class_id"].tolist() == [0, 0, 1, 1]
    assert "box_x" not in table
    assert "official_part" not in table


def test_csv_in_an_outer_folder_or_chosen_by_name(tmp_path):
    """Would catch paths that are not relative to the table, or a table chosen at random."""
    csv_folder(tmp_path / "photos", TABLE)
    assert manifest_from(tmp_path, "csv")["path"].tolist()[0] == "photos/a.png"
    csv_folder(tmp_path / "photos", "path,label\n../a.png,x\n../in/c.png,y\n", "lists/second.csv")
    second = manifest_from(tmp_path, "csv", csv="photos/lists/second.csv")
    assert second["path"].tolist() == ["photos/a.png", "photos/in/c.png"]
    again = manifest_from(tmp_path, "csv", csv="lists/second.csv")
    assert again.equals(second)
    csv_folder(tmp_path / "photos", TABLE, "other.csv")
    with pytest.raises(
        StudyError, match=r"several tables .*other\.csv.*choose one with dataset\.csv"
    ):
        manifest_from(tmp_path, "csv")
    for name in ("none.csv", "../photos.csv", "/etc/passwd"):
        with pytest.raises(StudyError, match=r"dataset\.csv"):
            manifest_from(tmp_path, "csv", csv=name)


def test_labels_that_are_numbers_are_sorted_as_numbers(tmp_path):
    """Would catch class 10 sorted before class 9, which changes the unseen classes."""
    text = "label,path\n10,a.png\n9,b.png\n100,d.png\n"
    table = manifest_from(csv_folder(tmp_path, text), "csv")
    assert table["class_name"].tolist() == ["9", "10", "100"]
    text = "label,path\n10,a.png\n9,b.png\nx,d.png\n"
    table = manifest_from(csv_folder(tmp_path, text), "csv")
    assert table["class_name"].tolist() == ["10", "9", "x"]


def test_csv_with_a_column_twice_is_refused(tmp_path):
    """Would catch a column that appears twice and is read without an error."""
    text = "path,label,split,split\na.png,x,train,test\n"
    with pytest.raises(StudyError, match="column 'split' appears 2 times"):
        manifest_from(csv_folder(tmp_path, text), "csv")


def test_csv_with_a_split(tmp_path):
    """Would catch a split column that is not the official split, or validation taken for test."""
    text = "path,label,split\na.png,x,train\nb.png,x,test\nin/c.png,y,train\nd.png,y,test\n"
    table = manifest_from(csv_folder(tmp_path, text), "csv")
    split = split_of(table, method="official")
    assert split["part"].tolist() == ["train", "test", "test", "train"]
    text += "e.png,y,validation\nf.png,x,train\n"
    names = ("a.png", "b.png", "in/c.png", "d.png", "e.png", "f.png")
    table = manifest_from(csv_folder(tmp_path, text, paths=names), "csv")
    parts = split_of(table, method="official")["part"].tolist()
    assert parts == ["train", "test", "train", "test", "validation", "train"]


# As open-metric-learning's documentation describes it, an index column of pandas included.
OML = """\
,label,path,split,is_query,is_gallery,x_1,x_2,y_1,y_2,category
0,3,a.png,train,,,,,,,bird
1,3,b.png,validation,True,True,1,5,0,4,bird
2,12,in/c.png,validation,False,True,0.0,6.0,1.0,3.0,bird
3,12,d.png,validation,1,0,,,,,bird
"""


def test_csv_of_open_metric_learning(tmp_path):
    """Would catch left, right, top, bottom taken for x, y, width, height, or queries for gallery."""
    table = manifest_from(csv_folder(tmp_path, OML), "csv")
    write_csv(tmp_path / "manifest.csv", table)
    table = read_manifest(tmp_path / "manifest.csv")
    assert table["class_name"].tolist() == ["3", "3", "12", "12"]
    assert table["path"].tolist() == ["a.png", "b.png", "d.png", "in/c.png"]
    assert table["official_part"].tolist() == ["train", "test", "test", "train"]
    boxes = table[["box_x", "box_y", "box_width", "box_height"]].to_numpy()
    assert boxes[[1, 3]].tolist() == [[1, 0, 4, 4], [0, 1, 6, 2]]
    assert np.isnan(boxes[[0, 2]]).all()
    assert split_of(table, method="official")["part"].tolist() == ["train", "test", "test", "train"]


def test_official_split_with_classes_of_its_own_is_refused(tmp_path):
    """Would catch a split by classes (usual in metric learning), which leaves classes without a gallery."""
    text = "label,path,split,is_query,is_gallery\n1,a.png,train,,\n1,b.png,train,,\n"
    text += "2,in/c.png,validation,1,1\n2,d.png,validation,1,1\n"
    table = manifest_from(csv_folder(tmp_path, text), "csv")
    with pytest.raises(StudyError, match=r"class '2'.*train part; set protocol\.split: stratified"):
        split_of(table, method="official")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected exactly one column 'path'"),
        ("path|label\na.png|x\n", r"photos\.csv: expected exactly one column 'path'.*'path|label'"),
        ("path,class\na.png,x\n", r"expected exactly one column 'label'"),
        ("path,label,label\na.png,x,y\n", r"expected exactly one column 'label'"),
        ("path,label\na.png\n", r"photos\.csv:2: 1 fields, but 2 columns"),
        ("path,label\na.png,\n", r"photos\.csv:2: no label"),
        ("path,label\n,x\n", r"photos\.csv:2: no path"),
        ("path,label\na.png,x\n./a.png,y\n", r"photos\.csv:3: \./a\.png is also in line 2"),
        ("path,label\n../a.png,x\n", r"photos\.csv:2: \.\./a\.png is outside"),
        ("path,label\nin/../../a.png,x\n", "is outside"),
        ("path,label\n/etc/passwd,x\n", "/etc/passwd is outside"),
        ("path,label\nz.png,x\n", r"z\.png: no such file, but the data set lists it"),
        ("path,label,split\na.png,x,val\n", r"photos\.csv:2: split is 'val'.*validation"),
        ("path,label,split\na.png,x,train\nb.png,x,\n", r"photos\.csv:3: split must be given"),
        ("path,label,split,is_query\na.png,x,train,1\n", "a training image cannot be a query"),
        ("path,label,split,is_query\na.png,x,validation,0\n", "must be a query or in the gallery"),
        ("path,label,split,is_query\na.png,x,validation,maybe\n", "is_query is 'maybe'"),
        ("path,label,x_1,x_2,y_1,y_2\na.png,x,1,2,3,\n", r"photos\.csv:2: .*not four numbers"),
        ("path,label,x_1,x_2,y_1,y_2\na.png,x,5,1,3,4\n", "the box is empty"),
        ("path,label,x_1,x_2,y_1,y_2\na.png,x,1,inf,3,4\n", "the box is empty"),
        ('path,label\n"a.png,x\n', "cannot be read as a CSV table"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path, text, words):
    """Would catch a table read with rows lost or shifted, or images from outside."""
    with pytest.raises(StudyError, match=words):
        manifest_from(csv_folder(tmp_path, text), "csv")


def test_table_that_is_no_text_is_refused(tmp_path):
    """Would catch names in another encoding that are read as other classes."""
    csv_folder(tmp_path, "")
    (tmp_path / "photos.csv").write_bytes("path,label\na.png,Grünfink\n".encode("latin-1"))
    with pytest.raises(StudyError, match="cannot be read as a CSV table"):
        manifest_from(tmp_path, "csv")


def test_table_that_is_missing_is_named(tmp_path):
    """Would catch a traceback if the table is missing."""
    write_image(tmp_path / "a.png")
    with pytest.raises(StudyError, match=r"no \.csv file"):
        manifest_from(tmp_path, "csv")


# The same file twice.


def test_duplicates(tmp_path):
    """Would catch a test image with a copy in the gallery, or an image with two labels, not reported."""
    for index, name in enumerate(["x/a", "x/b", "x/c", "x/d", "y/e", "y/f", "y/g", "y/h"]):
        write_image(tmp_path / f"{name}.png", (index + 1, 3))
    for source, target in (("x/a", "y/e"), ("x/b", "x/c"), ("y/f", "y/g")):
        (tmp_path / f"{target}.png").write_bytes((tmp_path / f"{source}.png").read_bytes())
    manifest = manifest_from(tmp_path, "folders")
    split = pd.DataFrame(
        {
            "image_id": range(8),
            "part": ["train", "train", "test", "train", "train", "train", "train", "test"],
        }
    )
    table = duplicates(manifest, split)
    found = table.groupby("group")[["path", "problem"]].agg(list)
    assert found["path"].tolist() == [
        ["x/a.png", "y/e.png"],
        ["x/b.png", "x/c.png"],
        ["y/f.png", "y/g.png"],
    ]
    assert [problems[0] for problems in found["problem"]] == [
        "in two classes",
        "in two parts",
        "twice",
    ]
    assert duplicates(manifest.iloc[:1], split).empty


# Problems of a data set.


def check(folder, data_format="folders", **options):
    split = {"method": "stratified", "test_share": 0.25, "seed": 42}
    options = {"max_pixels": MAX_PIXELS, "split": split, "threads": 2, **options}
    return find_problems(folder, data_format, **options)


def test_find_problems_lists_everything_that_is_wrong(tmp_path):
    """Would catch a check that stops at the first bad file, as the study does."""
    draw = np.random.default_rng(0)
    for name, count in (("a", 8), ("b", 8), ("few", 1), ("broken", 2)):
        for index in range(count):
            path = tmp_path / name / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = draw.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "6.png").write_bytes(b"no image")
    whole = (tmp_path / "a" / "7.png").read_bytes()
    (tmp_path / "a" / "7.png").write_bytes(whole[:-30])
    write_image(tmp_path / "b" / "strip.png", (1, 1000))
    for index in range(2):
        (tmp_path / "broken" / f"{index}.png").write_bytes(b"")
    (tmp_path / "b" / "0.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    problems, classes = check(tmp_path, classes=7, resizes=["shorter224"], unseen=5)
    assert set(problems["must_be_fixed"]) == {"yes"}
    assert problems["kind"].tolist() == ["tables", "split"] + ["image"] * 5 + ["class"] * 3 + [
        "duplicate"
    ]
    words = [
        "5 classes, but dataset.classes says 7",
        "cannot leave out 5 of 5",
        "a/6.png: not an image",
        "a/7.png: the image is broken",
        "b/strip.png: 1 × 1000 pixels would be resized to 224 × 224000",
        "broken/0.png: not an image",
        "broken/1.png: not an image",
        "'broken' has no readable images",
        "'empty' has no images",
        "'few' has 1 image(s)",
        "in two classes: a/0.png (a, ",
    ]
    for text, expected in zip(problems["problem"], words, strict=True):
        assert expected in text
    assert classes.set_index("class_name").to_dict("index") == {
        "a": {"images": 8, "unreadable": 2, "train": 4, "validation": 0, "test": 2},
        "b": {"images": 9, "unreadable": 1, "train": 6, "validation": 0, "test": 2},
        "broken": {"images": 2, "unreadable": 2, "train": 0, "validation": 0, "test": 0},
        "empty": {"images": 0, "unreadable": 0, "train": 0, "validation": 0, "test": 0},
        "few": {"images": 1, "unreadable": 0, "train": 0, "validation": 0, "test": 0},
    }


def test_good_images_have_no_problems(tmp_path):
    """Would catch problems reported for a good data set, or a split other than the study's."""
    for index in range(16):
        write_image(tmp_path / "ab"[index % 2] / f"{index}.png", (index + 3, 4))
    problems, classes = check(tmp_path)
    assert problems.empty
    split = split_of(manifest_from(tmp_path, "folders"), test_share=0.25)
    assert classes["train"].sum() == (split["part"] == "train").sum()
    # The same image twice in one class and part is only worth knowing.
    (tmp_path / "a" / "2.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    (tmp_path / "a" / "4.png").write_bytes((tmp_path / "a" / "0.png").read_bytes())
    problems, _ = check(
        tmp_path,
        "folders",
        split={"method": "stratified", "test_share": 0.25, "seed": 0},
    )
    assert problems["kind"].tolist() == ["duplicate"]


def test_find_problems_says_what_is_wrong_with_tables(tmp_path):
    """Would catch a traceback if the tables cannot be read."""
    problems, classes = check(cub_folder(tmp_path, bounding_boxes="1 1 1 1 1\n"), "cub")
    assert problems[["kind", "must_be_fixed"]].to_numpy().tolist() == [["tables", "yes"]]
    assert "no row for image 2" in problems["problem"][0]
    assert classes.empty


def test_find_problems_names_classes_that_lack_a_part(tmp_path):
    """Would catch only the first of several classes reported, or none before the training."""
    for name in ("a", "b", "c"):
        for index in range(60 if name == "a" else 2):
            write_image(tmp_path / name / f"{index}.png", (index + 1, ord(name)))
    split = {"method": "stratified", "test_share": 0.05, "seed": 42}
    problems, _ = check(tmp_path, split=split)
    assert problems["class_name"].tolist() == ["b", "c"]
    assert problems["problem"].str.contains("but none in the test part").all()


# Archives.


def tar(path, members, mode="w:gz"):
    """A tar file of (name, content) or (TarInfo, None)."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            if isinstance(name, tarfile.TarInfo):
                archive.addfile(name)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


CONTENT = random.Random(1).randbytes(5000)
FILES = [("birds/a/1.jpg", CONTENT), ("birds/b/ü 2.jpg", CONTENT[::-1]), ("empty.txt", b"")]


@pytest.mark.parametrize("kind", ["tar", "tgz", "bz2", "xz", "zip", "tar that ends with a zip"])
def test_archives_are_unpacked(tmp_path, kind):
    """Would catch a type of archive that is not recognised, or wrong content."""
    files = list(FILES)
    if kind == "zip":
        archive = zipped(tmp_path / "a", files)
    else:
        if kind.endswith("zip"):
            inner = zipped(tmp_path / "inner", FILES[:1])
            files.append(("last.zip", inner.read_bytes()))
            inner.unlink()
        modes = {"tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}
        archive = tar(tmp_path / "a", files, modes.get(kind, "w"))
    sizes = []
    extract(archive, tmp_path / "out", progress=sizes.append)
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == dict(files)
    assert sizes == [len(content) for _, content in files]


SYMLINK = zipfile.ZipInfo("link")
SYMLINK.create_system, SYMLINK.external_attr = 3, 0o120777 << 16


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda path: tar(path, [*FILES, ("../escaped", b"x")]), r"\.\./escaped"),
        (lambda path: tar(path, [*FILES, ("a/../../escaped", b"x")]), r"a/\.\./\.\./escaped"),
        (lambda path: tar(path, [*FILES, ("/tmp/escaped", b"x")]), "/tmp/escaped"),
        (lambda path: tar(path, [*FILES, ("C:/escaped", b"x")]), "C:/escaped"),
        (lambda path: tar(path, [(special("link", tarfile.SYMTYPE, "/etc"), None)]), "link"),
        (lambda path: tar(path, [(special("hard", tarfile.LNKTYPE, "/etc/passwd"), None)]), "hard"),
        (lambda path: tar(path, [(special("device", tarfile.CHRTYPE), None)]), "device"),
        (lambda path: tar(path, [(special("pipe", tarfile.FIFOTYPE), None)]), "pipe"),
        (lambda path: zipped(path, [*FILES, ("../escaped", b"x")]), r"\.\./escaped"),
        (lambda path: zipped(path, [*FILES, ("/tmp/escaped", b"x")]), "/tmp/escaped"),
        (lambda path: zipped(path, [(SYMLINK, b"/etc/passwd")]), "link"),
        (lambda path: tar(path, []), "contains no files"),
        (lambda path: tar(path, [FILES[0], FILES[0]]), "birds/a/1.jpg"),
    ],
)
def test_unsafe_archives_are_refused(tmp_path, make, name):
    """Would catch an archive that writes outside its folder or creates links and devices."""
    archive = make(tmp_path / "archive")
    with pytest.raises(StudyError, match=rf"(?s){archive}.*{name}"):
        extract(archive, tmp_path / "inner" / "out")
    assert not Path("/tmp/escaped").exists()
    assert sorted(os.listdir(tmp_path)) == ["archive", "inner"]
    assert list((tmp_path / "inner").iterdir()) == []


def test_large_archives_are_refused(tmp_path):
    """Would catch an archive that fills the disk."""
    archive = tar(tmp_path / "archive", FILES)
    with pytest.raises(StudyError, match=r"too large at member .birds/b"):
        extract(archive, tmp_path / "out", max_bytes=9999)
    assert os.listdir(tmp_path) == ["archive"]


def zeros_tgz(path, members, chunk=10_000_000):
    """A .tgz of members (name, number of zero bytes), made quickly by joining gzip files."""
    packed = gzip.compress(bytes(chunk), 9)
    with open(path, "wb") as stream:
        for name, size in members:
            member = tarfile.TarInfo(name)
            member.size = size
            stream.write(gzip.compress(member.tobuf()))
            for _ in range(size // chunk):
                stream.write(packed)
            stream.write(gzip.compress(bytes(size % chunk + -size % 512)))
        stream.write(gzip.compress(bytes(1024)))
    return path


def test_ten_gigabytes_of_zeros_are_refused_before_they_are_written(tmp_path, monkeypatch):
    """Would catch a small archive that fills the disk, with one member or with many."""
    written = []
    copy = archives.shutil.copyfileobj
    monkeypatch.setattr(
        archives.shutil,
        "copyfileobj",
        lambda source, sink, *rest: (copy(source, sink, *rest), written.append(sink.tell())),
    )
    one = zeros_tgz(tmp_path / "one.tgz", [("zeros", 10 * 2**30)])
    with pytest.raises(StudyError, match=r"one\.tgz: too large at member .zeros"):
        extract(one, tmp_path / "out")
    assert written == []
    many = zeros_tgz(tmp_path / "many.tgz", [(f"{i}", 20_000_000) for i in range(500)])
    # The size of the archive decides; the first members of ten gigabytes are enough here.
    os.truncate(many, 400_000)
    with pytest.raises(StudyError, match=r"many\.tgz: too large at member"):
        extract(many, tmp_path / "out")
    assert sum(written) <= 100 * 400_000 + 64 * 2**20
    assert sorted(os.listdir(tmp_path)) == ["many.tgz", "one.tgz"]


@pytest.mark.parametrize("kind", ["tgz", "tar", "xz", "zip"])
@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.97])
def test_truncated_archives_are_refused(tmp_path, kind, share):
    """Would catch a truncated archive that is unpacked up to the break."""
    archive = tmp_path / "archive"
    if kind == "zip":
        zipped(archive, FILES)
    else:
        tar(archive, FILES[:2], {"tgz": "w:gz", "tar": "w", "xz": "w:xz"}[kind])
    data = archive.read_bytes()
    # Of a tar file only the padding may be missing, which follows two headers and contents.
    size = 2 * (512 + 5120) if kind == "tar" else len(data)
    archive.write_bytes(data[: int(share * size)])
    with pytest.raises(StudyError, match=str(archive)):
        extract(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


def test_tar_cut_between_two_members_is_refused(tmp_path):
    """Would catch a truncated archive that tarfile takes for complete."""
    archive = tar(tmp_path / "archive", FILES, "w")
    archive.write_bytes(archive.read_bytes()[: 512 + 5120])
    with pytest.raises(StudyError, match="truncated"):
        extract(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


@pytest.mark.parametrize("kind", ["tgz", "bz2", "xz", "zip"])
def test_damaged_archives_are_refused(tmp_path, kind):
    """Would catch a damaged image because the checksum of the archive is not verified."""
    archive = tmp_path / "archive"
    if kind == "zip":
        zipped(archive, FILES)
    else:
        tar(archive, FILES, {"tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}[kind])
    data = bytearray(archive.read_bytes())
    data[len(data) // 3] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(StudyError, match=str(archive)):
        extract(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["archive"]


def test_unpacking_replaces_what_was_there(tmp_path):
    """Would catch images of an older archive mixed with new ones, or lost when the new one is refused."""
    extract(tar(tmp_path / "first", [("old.txt", b"old")]), tmp_path / "out")
    with pytest.raises(StudyError):
        extract(tar(tmp_path / "bad", [("../x", b"")]), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["old.txt"]
    extract(tar(tmp_path / "second", [("new.txt", b"new")]), tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["new.txt"]
