"""Maps of embeddings, thumbnails, charts and other pieces that pages are built from."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report
from drawn_study import draw_photographs
from PIL import Image

from dmlstudy.core.files import StudyError
from dmlstudy.data.pack import Pack
from dmlstudy.evaluate.embedding_map import embedding_map, on_map
from dmlstudy.evaluate.evaluation import confusions
from dmlstudy.evaluate.retrieval import answer_queries, neighbours_of
from dmlstudy.pages import images
from dmlstudy.pages.captions import caption
from dmlstudy.pages.charts import label, line
from dmlstudy.pages.outline import SECTIONS
from dmlstudy.pages.rendering import render
from dmlstudy.pages.sections import heatmaps
from dmlstudy.pages.sections.embedding_map import genera

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(SCRIPTS), os.environ.get("PYTHONPATH", "")]),
}


def drawn(gallery, queries, *, groups=4, seed=0):
    """Embeddings of well separated groups: (mapping, class ids)."""
    rng = np.random.default_rng(seed)
    class_ids = np.arange(gallery + queries) % groups
    values = np.eye(groups, 16)[class_ids] + 0.05 * rng.normal(size=(len(class_ids), 16))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    ids = np.arange(len(class_ids))
    return {
        "gallery_embeddings": values[:gallery],
        "gallery_image_ids": ids[:gallery],
        "query_embeddings": values[gallery:],
        "query_image_ids": ids[gallery:],
    }, class_ids


def test_map_repeats_and_shows_groups():
    """Would catch a map that differs each time, or queries that lie far from their neighbours.

    Groups this far apart give a graph with several components. There UMAP's own initialisation
    would draw from NumPy's global state.
    """
    embeddings, class_ids = drawn(80, 20)
    table = embedding_map(embeddings, seed=42, threads=1)
    np.random.default_rng().random(3)
    np.random.seed(0)
    again = embedding_map(embeddings, seed=42, threads=1)
    pd.testing.assert_frame_equal(table, again)
    assert table["is_query"].tolist() == [0] * 80 + [1] * 20
    assert table["image_id"].tolist() == list(range(100))
    points = table[["x", "y"]].to_numpy()
    gallery, queries = points[:80], points[80:]
    nearest = np.linalg.norm(queries[:, None] - gallery[None], axis=2).argmin(axis=1)
    assert (class_ids[:80][nearest] == class_ids[80:]).mean() > 0.9
    assert not np.allclose(embedding_map(embeddings, seed=1, threads=1)["x"], table["x"])


def test_queries_do_not_change_the_map():
    """Would catch a map that is fitted on test images as well."""
    embeddings, _ = drawn(60, 20)
    without = {**embeddings, "query_embeddings": embeddings["query_embeddings"][:0],
               "query_image_ids": embeddings["query_image_ids"][:0]}  # fmt: skip
    table, alone = (embedding_map(one, seed=42, threads=1) for one in (embeddings, without))
    pd.testing.assert_frame_equal(table[table["is_query"] == 0], alone)


@pytest.mark.parametrize("gallery", [1, 2, 3, 5, 14, 16])
def test_map_of_few_images(gallery):
    """Would catch an error if the gallery is smaller than UMAP's number of neighbours."""
    embeddings, _ = drawn(gallery, 3, groups=2)
    table = embedding_map(embeddings, seed=42, threads=1)
    assert len(table) == gallery + 3
    assert np.isfinite(table[["x", "y"]].to_numpy()).all()


def test_map_of_a_collapsed_model():
    """Would catch equal embeddings that give NaN, or a different map each time."""
    embeddings, _ = drawn(40, 10)
    for role in ("gallery", "query"):
        embeddings[f"{role}_embeddings"][:] = embeddings["gallery_embeddings"][0]
    table = embedding_map(embeddings, seed=42, threads=1)
    assert np.isfinite(table[["x", "y"]].to_numpy()).all()
    pd.testing.assert_frame_equal(table, embedding_map(embeddings, seed=42, threads=1))


@pytest.mark.parametrize(
    ("classes", "each", "most", "kept", "of_a_class"),
    [(10, 30, 300, 10, 30), (10, 30, 299, 10, 29), (4, 300, 400, 4, 100), (50, 8, 100, 12, 8)],
)
def test_images_on_a_large_map(classes, each, most, kept, of_a_class):
    """Would catch classes torn apart, a class that crowds out others, and too many images."""
    class_ids = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), each))
    chosen = on_map(class_ids, seed=1, most=most)
    assert chosen.sum() <= most
    counts = np.bincount(class_ids[chosen], minlength=classes)
    assert sorted(set(counts)) == sorted({of_a_class} | ({0} if kept < classes else set()))
    assert (counts > 0).sum() == kept
    assert (on_map(class_ids, seed=1, most=most) == chosen).all()
    if kept * of_a_class < len(class_ids):
        assert (on_map(class_ids, seed=2, most=most) != chosen).any()


def test_a_map_of_some_images_is_the_map_of_these_alone():
    """Would catch images that are left out of the table but still shape the map, or a shifted mask."""
    embeddings, class_ids = drawn(80, 20)
    chosen = class_ids < 2
    some = {}
    for role in ("gallery", "query"):
        rows = chosen[embeddings[f"{role}_image_ids"]]
        for what in ("embeddings", "image_ids"):
            some[f"{role}_{what}"] = embeddings[f"{role}_{what}"][rows]
    table = embedding_map(embeddings, seed=42, chosen=chosen, threads=1)
    pd.testing.assert_frame_equal(table, embedding_map(some, seed=42, threads=1))
    assert set(class_ids[table["image_id"]]) == {0, 1}


def test_maps_and_pages_need_no_torch():
    """Would catch seconds for importing torch in each job that makes a map or a page."""
    program = (
        "import sys, umap\n"
        "from dmlstudy.evaluate import embedding_map\n"
        "from dmlstudy.pages import comparison_page, reports\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=ENVIRONMENT)


def test_confusions_cost_what_precision_loses():
    """Would catch a pair counted for the wrong class, or costs that do not add up to the errors."""
    queries = pd.DataFrame(
        {"class_id": [0, 0, 0, 1, 1, 2, 2], "nearest_class_id": [1, 1, 0, 0, 1, 1, 0]}
    )
    queries["correct"] = (queries["class_id"] == queries["nearest_class_id"]).astype(int)
    table = confusions(queries, ["a", "b", "c"])
    assert table[["class_name", "nearest_class_name", "wrong", "queries"]].values.tolist() == [
        ["a", "b", 2, 3],
        ["b", "a", 1, 2],
        ["c", "a", 1, 2],
        ["c", "b", 1, 2],
    ]
    assert table["cost"].sum() == pytest.approx(1 - queries["correct"].mean())
    assert len(confusions(queries[queries["correct"] == 1], ["a", "b", "c"])) == 0


def test_neighbours_begin_with_the_answer():
    """Would catch neighbours on a page that are not those that gave the answer."""
    embeddings, class_ids = drawn(40, 12)
    answers = answer_queries(embeddings, class_ids, threads=1).set_index("image_id")
    chosen = class_ids[40:] == 1
    table = neighbours_of(embeddings, class_ids, chosen, 5, threads=1)
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * int(chosen.sum())
    first = table[table["rank"] == 1]
    assert first["image_id"].tolist() == (40 + np.flatnonzero(chosen)).tolist()
    own = answers.loc[first["image_id"]]
    assert first["nearest_image_id"].tolist() == own["nearest_image_id"].tolist()
    assert first["similarity"].tolist() == own["similarity"].tolist()
    values = np.concatenate([embeddings["gallery_embeddings"], embeddings["query_embeddings"]])
    for row in table.itertuples():
        slow = np.linalg.norm(values[row.image_id].astype(float) - values[row.nearest_image_id])
        assert row.distance == pytest.approx(slow, abs=1e-4)


def pack_of(folder, arrays):
    """A pack of images given as arrays."""
    folder.mkdir()
    sizes = [image.size for image in arrays]
    np.concatenate([image.ravel() for image in arrays]).tofile(folder / "pixels.bin")
    np.savez(
        folder / "index.npz",
        offsets=np.concatenate([[0], np.cumsum(sizes)[:-1]]),
        heights=[image.shape[0] for image in arrays],
        widths=[image.shape[1] for image in arrays],
    )
    return Pack(folder)


def test_sprite_has_every_image_in_its_place(tmp_path, monkeypatch):
    """Would catch a thumbnail of another image, one that is squashed, and a study that large data ends."""
    arrays = []
    for index in range(11):
        image = np.zeros((40, 60 if index % 2 else 40, 3), dtype=np.uint8)
        # The middle square has its own colour; what is cut off is white.
        image[:] = 255
        left = (image.shape[1] - 40) // 2
        image[:, left : left + 40] = [20 * index, 255 - 20 * index, 128]
        arrays.append(image)
    pack = pack_of(tmp_path / "pack", arrays)
    path = tmp_path / "sprite.webp"
    widths = [image.shape[1] * 10 for image in arrays]
    images.write_sprite(path, pack, widths, [400] * 11, 16)
    sprite = np.asarray(Image.open(path).convert("RGB")).astype(int)
    columns = images.sprite_columns(11)
    assert sprite.shape == (48, 64, 3)
    for index in range(11):
        top, left = index // columns * 16, index % columns * 16
        middle = sprite[top + 4 : top + 12, left + 4 : left + 12].mean(axis=(0, 1))
        assert np.abs(middle - [20 * index, 255 - 20 * index, 128]).max() < 20
    before = path.read_bytes()
    images.write_sprite(path, pack, widths, [400] * 11, 16)
    assert path.read_bytes() == before
    # Four columns of at most 12 pixels fit into 50.
    monkeypatch.setattr(images, "SPRITE_SIDE", 50)
    images.write_sprite(path, pack, widths, [400] * 11, 16)
    assert Image.open(path).size == (48, 36)
    monkeypatch.setattr(images, "SPRITE_SIDE", 15)
    with pytest.raises(StudyError, match="11 thumbnails of 4 pixels do not fit"):
        images.write_sprite(path, pack, widths, [400] * 11, 16)


def four_images(width, height):
    """A manifest of four images of one class."""
    sizes = {"width": width, "height": height}
    return pd.DataFrame(
        {"image_id": range(4), "class_id": 0, "class_name": "x", "path": "x", **sizes}
    )


def test_copies_of_photographs_are_told(tmp_path):
    """Would catch a copy of a query in the gallery that nobody is told of, or two photographs taken for one."""
    first, other = draw_photographs(2)
    paler = (first.astype(float) * 0.9).astype(np.uint8)
    pack = pack_of(tmp_path / "pack", [first, first, paler, other])
    manifest = four_images(4, 3)
    split = pd.DataFrame({"image_id": range(4), "part": ["test", "train", "train", "dropped"]})
    found = images.PageImages(pack, manifest, split, near=8)
    assert found.copied(0, 1) == "same pixels"
    assert found.copied(0, 2).startswith("near duplicate, ")
    assert found.copied(0, 3) == ""
    assert images.PageImages(pack, manifest, split).copied(0, 2) == ""
    named = images.PageImages(pack, manifest.assign(sha256=["a", "b", "c", "a"]), split)
    assert named.copied(0, 3) == "same file"


def test_a_photograph_says_its_part(tmp_path):
    """Would catch a dropped photograph called a training image, or shown as the example of its class."""
    pack = pack_of(
        tmp_path / "pack", [np.full((4, 4, 3), 60 * one, dtype=np.uint8) for one in range(4)]
    )
    manifest = four_images(4, 4)
    # The split's rows may stand in another order.
    split = pd.DataFrame(
        {"image_id": [3, 2, 1, 0], "part": ["test", "train", "validation", "dropped"]}
    )
    found = images.PageImages(pack, manifest, split)
    said = [found.image(number)["part"] for number in range(4)]
    assert said[2:] == ["training image", "test image"]
    assert said[0].startswith("dropped")
    assert said[1].startswith("validation")
    assert found.example(0) is found.image(2)


def test_images_keep_their_proportions(tmp_path):
    """Would catch an image that is shown squashed, because a pack without augmentation is."""
    pack = pack_of(tmp_path / "pack", [np.zeros((64, 64, 3), dtype=np.uint8)])
    assert images.resized_image(pack, 0, 400, 300, 32).size == (32, 24)
    assert images.resized_image(pack, 0, 300, 400, 32).size == (24, 32)
    assert max(images.resized_image(pack, 0, 400, 300, 128).size) == 64


def test_each_section_has_a_template_and_its_own_anchor():
    """Would catch two sections under one link, or a section whose template is missing."""
    anchors = [section.anchor for section in SECTIONS]
    assert len(set(anchors)) == len(anchors)
    templates = {path.name for path in (SCRIPTS / "dmlstudy/pages/templates").iterdir()}
    assert {section.template for section in SECTIONS} <= templates


def test_genera_follow_from_names():
    """Would catch a colour per class although names show the genus, or unrelated classes as one."""
    names = [
        "001.Black_footed_Albatross",
        "002.Laysan_Albatross",
        "003.Groove_billed_Ani",
        "004.Sarunis_miceris",
        "005.Sarunis_caguvus",
        "Blue Tit",
        "Great Tit",
        "wren",
    ]
    assert genera(names) == [
        "Albatross",
        "Albatross",
        "Groove_billed_Ani",
        "Sarunis",
        "Sarunis",
        "Tit",
        "Tit",
        "wren",
    ]
    assert len(genera(["", "_", "7.", "a b c"])) == 4


def test_lines_leave_out_what_is_missing():
    """Would catch a missing point drawn as 0, or an error bar at the wrong point."""
    trace = line("a", [1, 2, 3], [0.5, float("nan"), 0.7], index=0, low=[0.4, 0.0, 0.5], high=[0.6, 1.0, float("nan")])  # fmt: skip
    assert trace.x == (1, 3)
    assert trace.error_y.array == pytest.approx((0.1, 0.0))
    assert trace.error_y.arrayminus == pytest.approx((0.1, 0.2))
    assert label("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"


def test_data_of_scripts_cannot_end_them():
    """Would catch a class name that ends the script it is in, or a NaN that no browser can read."""
    chart = {
        "name": "x",
        "title": "t",
        "alt": "a",
        "spec": {"data": ["</script><!--"], "layout": {}},
    }
    page = render("plot.html.j2", title="t", note="", drawn=chart)
    assert "\\u003c/script\\u003e\\u003c!--" in page
    chart["spec"]["data"] = [float("nan")]
    with pytest.raises(ValueError, match="JSON"):
        render("plot.html.j2", title="t", note="", drawn=chart)


def test_captions_state_protocol_n_and_gallery(tmp_path):
    """Would catch a caption without the protocol, or a first run that fails for lack of results."""
    protocol = {"seeds": [42, 43], "epochs": 100, "batch_size": 128, "image_size": 224, "test_share": 0.2}  # fmt: skip
    path = tmp_path / "experiments.csv"
    assert caption(path, protocol, [224]) == ""
    path.write_text("data,queries,gallery,classes,unseen_classes\nbirds,2358,9430,200,20\n")
    text = caption(path, protocol, [224, 96, 224])
    for words in ("n = 2358", "gallery of 9430", "200 classes", "trained on 20", "100 epochs"):
        assert words in text
    assert "42, 43" in text


def test_class_names_that_look_like_numbers_stay_names(tmp_path):
    """Would catch class 001 shown as 1."""
    text = "class_name,nearest_class_name,wrong\n001,1.10,3\nNA,,2\n"
    (tmp_path / "confusions.csv").write_text(text)
    table = report.read_table(tmp_path / "confusions.csv")
    assert table["class_name"].tolist() == ["001", "NA"]
    assert table["nearest_class_name"].tolist()[0] == "1.10"
    assert table["wrong"].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (0.9, "More than a uniform map"),
        (0.52, "No difference to a uniform map is shown"),
        (0.2, "Less than a uniform map"),
    ],
)
def test_heat_maps_conclude_only_what_intervals_carry(own, words):
    """Would catch maps that are said to find the bird where a uniform map has as much heat on it."""
    rows = {
        name: {
            f"{measure}{end}": value + half
            for measure in ("share_in_box", "pointing_accuracy")
            for end, half in (("", 0), ("_low", -0.05), ("_high", 0.05))
        }
        for name, value in (("all_classes", own), ("uniform", 0.5), ("centred_gaussian", 0.8))
    }
    said = heatmaps.found(rows, "all_classes")
    assert len(said) == 2
    assert words in said[0]
    assert heatmaps.found({}, "all_classes") == []
