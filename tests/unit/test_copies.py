"""Copies of photographs: how they are found, what they are for a split, and the page that shows them."""

import hashlib
import html
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from dmlstudy.data.copies import KINDS, _near, find_copies, hash_images, perceptual_hashes
from dmlstudy.data.copy_search import CopySearch
from dmlstudy.data.problems import find_problems
from dmlstudy.pages.copies_page import copies_page

MAX_PIXELS = 1_000_000
NEAR = 10
SPLIT = {"method": "stratified", "test_share": 0.25, "seed": 42}


def scene(seed, size=(200, 150)):
    """A photograph-like image: smooth patches of colour, different for each seed."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def photos(folder, classes=("robin", "wren"), count=8):
    """A folder per class with different scenes."""
    for class_id, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            scene(100 * class_id + index).save(folder / name / f"{index:02}.png")


def manifest_of(folder):
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    sizes = [Image.open(folder / path).size for path in paths]
    digests = [hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in paths]
    names = [path.split("/")[0] for path in paths]
    return pd.DataFrame(
        {
            "image_id": range(len(paths)),
            "path": paths,
            "class_id": pd.factorize(np.array(names))[0],
            "class_name": names,
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
            "sha256": digests,
        }
    )


def copies_of(folder, near=NEAR):
    manifest = manifest_of(folder)
    hashes = hash_images(folder, manifest["path"], max_pixels=MAX_PIXELS, threads=2)
    return find_copies(folder, manifest, hashes, near=near, max_pixels=MAX_PIXELS)


PLANTED = {
    "same bytes": ("same bytes", lambda image, path: None),
    "other format": ("same pixels", lambda image, path: image.save(path.with_suffix(".bmp"))),
    "re-encoded": (
        "near duplicate",
        lambda image, path: image.save(path.with_suffix(".jpg"), quality=40),
    ),
    "smaller": ("near duplicate", lambda image, path: image.resize((90, 68)).save(path)),
    "larger": ("near duplicate", lambda image, path: image.resize((410, 300)).save(path)),
    "mirrored": ("near duplicate", lambda image, path: ImageOps.mirror(image).save(path)),
    "brighter": (
        "near duplicate",
        lambda image, path: ImageEnhance.Brightness(image).enhance(1.15).save(path),
    ),
    "grey": ("near duplicate", lambda image, path: image.convert("L").save(path)),
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_copy_is_found_and_nothing_else(tmp_path, how):
    """Would catch a kind of copy that is missed or wrongly named, and different scenes taken for copies."""
    photos(tmp_path)
    kind, plant = PLANTED[how]
    source, target = tmp_path / "robin/03.png", tmp_path / "wren/copy.png"
    plant(Image.open(source), target)
    if kind == "same bytes":
        target.write_bytes(source.read_bytes())
    table = copies_of(tmp_path)
    assert table["path"].str.replace(r"\..*", "", regex=True).tolist() == [
        "robin/03",
        "wren/copy",
    ]
    assert set(table["kind"]) == {kind}
    assert table["like"].tolist() == table["path"].tolist()[::-1]
    assert set(table["mirrored"]) == {"yes" if how == "mirrored" else "no"}
    assert (table["distance"] <= NEAR).all()
    exact = copies_of(tmp_path, near=None)
    assert len(exact) == (2 if kind == "same bytes" else 0)


def test_images_without_detail_are_no_near_duplicates(tmp_path):
    """Would catch a black and a white image that count as copies because their hashes are empty."""
    (tmp_path / "a").mkdir()
    for index, grey in enumerate((0, 128, 255)):
        Image.new("RGB", (40, 30), (grey,) * 3).save(tmp_path / "a" / f"{index}.png")
    assert copies_of(tmp_path).empty
    Image.new("RGB", (40, 30)).save(tmp_path / "a" / "3.bmp")
    table = copies_of(tmp_path)
    assert table["path"].tolist() == ["a/0.png", "a/3.bmp"]
    assert set(table["kind"]) == {KINDS[1]}


def test_a_chain_of_copies_is_one_set(tmp_path):
    """Would catch sets that share a photograph, which could land in different parts."""
    photos(tmp_path)
    scene(3).resize((100, 75)).save(tmp_path / "wren/small.png")
    (tmp_path / "wren/again.png").write_bytes((tmp_path / "wren/small.png").read_bytes())
    table = copies_of(tmp_path)
    assert set(table["set"]) == {0}
    assert set(table["kind"]) == {"near duplicate"}
    best = dict(zip(table["path"], table["like"], strict=True))
    assert best["wren/small.png"] == "wren/again.png"


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=30),
    st.integers(0, 12),
    st.integers(0, 2**32 - 1),
)
def test_near_duplicates_equal_an_obvious_search(picks, near, seed):
    """Would catch pairs that the index misses or adds: compared with a loop over all pairs."""
    draw = np.random.default_rng(seed)
    centres = draw.integers(0, 2, (4, 128))
    bits = []
    for pick in picks:
        code = centres[pick % 4].copy()
        code[draw.choice(128, pick % 9, replace=False)] ^= 1
        bits.append([code, draw.integers(0, 2, 128)])
    # One is the mirror image of another.
    bits[-1][1] = bits[0][0]
    bits = np.array(bits)
    links = np.concatenate(_near(np.packbits(bits, axis=2).astype(np.uint8), near, 1))
    labels = np.arange(len(bits))
    expected = labels.copy()
    for one in range(len(bits)):
        for other in range(len(bits)):
            plain = (bits[one, 0] != bits[other, 0]).sum() <= near
            mirrored = (bits[one, 1] != bits[other, 0]).sum() <= near
            # The mirror image that is compared is that of the first image with the same hash.
            first = next(i for i in range(len(bits)) if (bits[i, 0] == bits[one, 0]).all())
            if one != other and (plain or (mirrored and first == one)):
                expected[expected == expected[other]] = expected[one]
    for link in links:
        labels[labels == labels[link["other"]]] = labels[link["one"]]
    # Equal partitions: each pair is together in both or in neither.
    assert ((labels[:, None] == labels) == (expected[:, None] == expected)).all()
    for link in links:
        seen = bits[link["one"], int(link["mirrored"])]
        assert link["distance"] == (seen != bits[link["other"], 0]).sum() <= near


def test_hashes_of_odd_sizes():
    """Would catch an image of one row, or of fewer pixels than a hash, that ends the check-up."""
    for size in ((1, 1), (1, 300), (300, 1), (5, 4)):
        assert perceptual_hashes(scene(0, size)).shape == (2, 16)


def check(folder, *, grouping=None, near=NEAR):
    copies = CopySearch(near, max_pixels=MAX_PIXELS, threads=2)
    problems, _ = find_problems(
        folder,
        "folders",
        max_pixels=MAX_PIXELS,
        split=SPLIT,
        grouping=grouping,
        copies=copies,
        threads=2,
    )
    return problems, copies.table


@pytest.fixture
def planted(tmp_path):
    """Photographs with a near duplicate in two parts, equal pixels in two classes, and equal files."""
    folder = tmp_path / "photos"
    photos(folder, count=12)
    _, table = check(folder)
    assert table.empty
    # With the plain split, some copy of a robin stands in the other part than its original.
    for index in range(4):
        scene(index).resize((100, 75)).save(folder / "robin" / f"{index:02}s.png")
    scene(8).save(folder / "wren" / "robin.bmp")
    return folder


def test_check_up_says_what_copies_do(planted):
    """Would catch near duplicates that stop the check-up, or labels in conflict that do not."""
    problems, table = check(planted)
    near = problems[problems["kind"] == "near duplicate"]
    assert set(near["must_be_fixed"]) == {"no"}
    assert near["problem"].str.contains("in two parts").all()
    assert len(near) == len(set(table.loc[table["problem"] == "in two parts", "set"])) >= 1
    exact = problems[problems["must_be_fixed"] == "yes"]
    assert exact["problem"].tolist() == [
        "the same pixels in two classes: "
        + "; ".join(
            f"{one.path} ({one.class_name}, {one.part})"
            for one in table[table["kind"] == "same pixels"].itertuples()
        )
    ]


def test_check_up_of_copies_in_one_part(planted):
    """Would catch a copy that stands in two parts although copies are together."""
    problems, table = check(planted, grouping={"duplicates": "together"})
    assert not problems["problem"].str.contains("in two parts").any()
    assert table.groupby("set")["part"].nunique().max() == 1
    moved = problems.loc[problems["kind"] == "split", "problem"].tolist()
    assert len(moved) == 1
    assert re.match(r"[1-9]\d* photographs moved", moved[0])
    # The labels still disagree.
    assert "the same pixels in two classes" in " ".join(problems["problem"])


def test_check_up_of_dropped_copies(planted):
    """Would catch a label in conflict that is chosen in silence, or copies that are still counted."""
    problems, table = check(planted, grouping={"duplicates": "drop"})
    assert set(problems["must_be_fixed"]) == {"no"}
    conflict = table[table["kind"] == "same pixels"]
    assert set(conflict["part"]) == {"dropped"}
    for path in conflict["path"]:
        assert (
            problems["problem"]
            .str.startswith(f"{path}: dropped: copies of it are in several classes (robin, wren)")
            .any()
        )
    others = table[table["kind"] != "same pixels"].groupby("set")["part"]
    assert all((parts != "dropped").sum() == 1 for _, parts in others)


def test_page_shows_the_copies(planted):
    """Would catch a page without a set, with unescaped names, or that needs the network."""
    (planted / "wren" / "<b>&.png").write_bytes((planted / "wren" / "05.png").read_bytes())
    _, table = check(planted)
    page = copies_page(
        table, planted, dataset="<i>", duplicates="keep", near=NEAR, max_pixels=MAX_PIXELS
    )
    for path in table["path"]:
        assert html.escape(path) in page
    assert page.count("data:image/webp") == len(table)
    assert "<b>&.png" not in page
    assert "<i>" not in page
    assert not re.search(r'(src|href)="http', page)
    empty = copies_page(
        table.head(0), planted, dataset="x", duplicates="keep", near=NEAR, max_pixels=MAX_PIXELS
    )
    assert "No photograph is in the data set more than once" in empty
