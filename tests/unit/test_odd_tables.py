"""Tables (CSV and CUB) as spreadsheets, editors and other programs write them; boxes; paths."""

import logging

import numpy as np
import pytest
from helpers import MAX_PIXELS
from PIL import Image

from dmlstudy.core.files import StudyError
from dmlstudy.data.manifest import make_manifest
from dmlstudy.data.problems import find_problems
from dmlstudy.explain.localisation import boxes_without_score
from dmlstudy.pages.rendering import render_fragment

TABLE = "path,label\nhat/0.png,Hut\nhat/1.png,Hut\nshoe/0.png,Schuh, groß\nshoe/1.png,Schuh, groß\n"
TABLE = TABLE.replace("Schuh, groß", '"Schuh, groß"')
CUB = {
    "classes": "1 Hut\n2 Schuh groß\n",
    "images": "1 hat/0.png\n2 hat/1.png\n3 shoe/0.png\n4 shoe/1.png\n",
    "image_class_labels": "1 1\n2 1\n3 2\n4 2\n",
    "bounding_boxes": "1 0 0 4 3\n2 1 1 2 2\n3 0 0 4 3\n4 0 0 4 3\n",
    "train_test_split": "1 1\n2 0\n3 1\n4 0\n",
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
ENDS = ["\n", "\r\n", "\r", "\n\n"]


def write_images(folder):
    for index, name in enumerate(("hat/0.png", "hat/1.png", "shoe/0.png", "shoe/1.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (index, 0, 0)).save(folder / name)


def csv_folder(folder, text, name="t.csv", encoding="utf-8"):
    write_images(folder)
    (folder / name).write_bytes(text.encode(encoding))
    return folder


def cub_folder(folder, encoding="utf-8", end="\n", **changes):
    write_images(folder / "images")
    for name, text in {**CUB, **changes}.items():
        if text is not None:
            (folder / f"{name}.txt").write_bytes(text.replace("\n", end).encode(encoding))
    return folder


def manifest(folder, data_format, **options):
    return make_manifest(folder, data_format, max_pixels=MAX_PIXELS, **options)


def problems(folder, data_format):
    split = {"method": "stratified", "test_share": 0.5, "seed": 42}
    return find_problems(folder, data_format, max_pixels=MAX_PIXELS, split=split)[0]


# Encodings, line ends, separators.


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_and_line_ends_of_both_formats(tmp_path, encoding, end):
    """Would catch a mark, an encoding or a line end that only one of the formats reads."""
    table = manifest(csv_folder(tmp_path / "c", TABLE.replace("\n", end), encoding=encoding), "csv")
    assert table["class_name"].tolist() == ["Hut"] * 2 + ["Schuh, groß"] * 2
    table = manifest(cub_folder(tmp_path / "b", encoding, end), "cub")
    assert table["class_name"].tolist() == ["Hut"] * 2 + ["Schuh groß"] * 2
    assert table["official_part"].tolist() == ["train", "test"] * 2
    assert table["box_width"].tolist() == [4, 2, 4, 4]


@pytest.mark.parametrize("file", ["classes", "images", "image_class_labels", "bounding_boxes"])
def test_latin_1_is_refused_with_file_and_line(tmp_path, file):
    """Would catch a class name read in a guessed encoding, in any of the tables."""
    text = CUB[file].replace("ß", "ss") + "5 gr\xfcn 0 0 0\n"
    cub_folder(tmp_path / "b")
    (tmp_path / "b" / f"{file}.txt").write_bytes(text.encode("latin-1"))
    words = rf"{file}\.txt: cannot be read as a table: line {text.count(chr(10))} .*Latin-1"
    with pytest.raises(StudyError, match=words):
        manifest(tmp_path / "b", "cub")
    csv_folder(tmp_path / "c", "path,label\r\na.png,gr\xfcn\r\n", encoding="latin-1")
    with pytest.raises(
        StudyError, match=r"t\.csv: cannot be read as a CSV table: line 2 .*Latin-1"
    ):
        manifest(tmp_path / "c", "csv")


def test_utf_16_without_a_mark_is_refused_in_words(tmp_path):
    """Would catch the traceback of a NUL character, or every second character taken for a name."""
    with pytest.raises(StudyError, match=r"t\.csv: .*NUL.*UTF-16"):
        manifest(csv_folder(tmp_path / "c", TABLE.replace("ß", "s"), encoding="utf-16-le"), "csv")
    with pytest.raises(StudyError, match=r"classes\.txt: .*NUL.*UTF-16"):
        manifest(cub_folder(tmp_path / "b", "utf-16-le", classes="1 Hut\n2 B\n"), "cub")


@pytest.mark.parametrize("line", ["", "sep=;\n", "sep=;\r\n"])
def test_semicolons_of_a_spreadsheet(tmp_path, line):
    """Would catch the CSV of a German or French spreadsheet refused or read as one column."""
    text = 'path;label\nhat/0.png;Hut\nshoe/0.png;"a;b"\n'
    table = manifest(csv_folder(tmp_path, line + text), "csv")
    assert table["class_name"].tolist() == ["Hut", "a;b"]
    (tmp_path / "t.csv").write_text(line + text + "shoe/1.png\n")
    with pytest.raises(StudyError, match=rf"t\.csv:{4 + bool(line)}: 1 fields, but 2 columns"):
        manifest(tmp_path, "csv")


def test_tabs_and_other_names_of_tables(tmp_path):
    """Would catch a table named T.CSV that is not found, or a .tsv that nobody tells how to name."""
    text = "path\tlabel\nhat/0.png\tHut, rot\nshoe/0.png\tSchuh\n"
    csv_folder(tmp_path / "tabs", text, "t.tsv")
    with pytest.raises(
        StudyError, match=r"no \.csv file, but t\.tsv; name the table with dataset\.csv"
    ):
        manifest(tmp_path / "tabs", "csv")
    table = manifest(tmp_path / "tabs", "csv", csv="t.tsv")
    assert table["class_name"].tolist() == ["Hut, rot", "Schuh"]
    for name in ("T.CSV", "t.Csv"):
        assert len(manifest(csv_folder(tmp_path / name, TABLE, name), "csv")) == 4
    csv_folder(tmp_path / "odd", TABLE, "[a] t.csv")
    (tmp_path / "odd" / "z.csv").touch()
    assert len(manifest(tmp_path / "odd", "csv", csv="[a] t.csv")) == 4
    (tmp_path / "none").mkdir()
    with pytest.raises(StudyError, match=r"dataset\.csv"):
        manifest(tmp_path / "none", "csv")


def test_a_folder_named_like_a_table_is_no_table(tmp_path):
    """Would catch the traceback of reading a folder."""
    (csv_folder(tmp_path, TABLE) / "old.csv").mkdir()
    assert len(manifest(tmp_path, "csv")) == 4


# Tables without rows, wrong values.


@pytest.mark.parametrize("text", ["path,label\n", "path,label", "path,label\n\n  \n,\n"])
def test_csv_without_rows_is_refused(tmp_path, text):
    """Would catch an empty manifest, and other settings blamed for it."""
    csv_folder(tmp_path, text)
    with pytest.raises(StudyError, match=r"t\.csv: the table has no rows"):
        manifest(tmp_path, "csv")
    found = problems(tmp_path, "csv")
    assert found["kind"].tolist() == ["tables"]
    assert "has no rows" in found["problem"][0]


@pytest.mark.parametrize("name", CUB)
def test_cub_without_rows_is_refused(tmp_path, name):
    """Would catch an empty table of CUB, whichever it is."""
    with pytest.raises(StudyError, match=rf"{name}\.txt: the table has no rows"):
        manifest(cub_folder(tmp_path, **{name: " \n\n"}), "cub")


@pytest.mark.parametrize("value", ["2", "-1", "x", "1.5", "true", "01", "1 0"])
def test_part_other_than_0_or_1_is_refused_by_line(tmp_path, value):
    """Would catch every other value taken for a test image."""
    split = f"1 1\n2 0\n3 {value}\n4 0\n"
    with pytest.raises(StudyError, match=rf"train_test_split\.txt:3: the part is '{value}'"):
        manifest(cub_folder(tmp_path, train_test_split=split), "cub")


@pytest.mark.parametrize("digits", ["9" * 5000, "٣", "1_0", "+1", "1.0"])
def test_ids_that_are_no_plain_numbers_are_refused(tmp_path, digits):
    """Would catch Python's limit for digits as a traceback, or 1_0 taken for 10."""
    with pytest.raises(StudyError, match=r"images\.txt:5: expected 2 columns"):
        manifest(cub_folder(tmp_path, images=CUB["images"] + f"{digits} hat/9.png\n"), "cub")


def test_labels_of_many_digits_are_sorted_as_text(tmp_path):
    """Would catch Python's limit for digits as a traceback."""
    text = f"path,label\nhat/0.png,{'9' * 5000}\nshoe/0.png,10\n"
    assert manifest(csv_folder(tmp_path, text), "csv")["class_name"].tolist()[0] == "10"


# Paths.


def test_path_that_leaves_the_folder_and_comes_back(tmp_path, monkeypatch):
    """Would catch "outside" said of a file that is inside, however the folder is spelt."""
    folder = csv_folder(tmp_path / "photos", "path,label\n../photos/hat/0.png,x\nshoe/0.png,y\n")
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path)
    for source in (folder, "photos", "photos/", "./photos", "link", "photos/../photos"):
        assert manifest(source, "csv")["path"].tolist() == ["hat/0.png", "shoe/0.png"]
    monkeypatch.chdir(folder)
    assert manifest(".", "csv")["path"].tolist() == ["hat/0.png", "shoe/0.png"]
    (folder / "t.csv").write_text(f"path,label\n{folder}/hat/0.png,x\n{folder}/shoe/0.png,y\n")
    assert manifest(tmp_path / "link", "csv")["path"].tolist() == ["hat/0.png", "shoe/0.png"]
    assert len(manifest(folder, "csv", csv="../photos/t.csv")) == 2
    assert len(manifest(folder, "csv", csv=str(folder / "t.csv"))) == 2


def test_path_that_leads_out_is_told_as_such(tmp_path):
    """Would catch a file that is there and is said to be missing, or a name that resembles the folder."""
    write_images(tmp_path / "photos2")
    folder = csv_folder(tmp_path / "photos", "path,label\n../photos2/hat/0.png,x\n")
    words = rf"t\.csv:2: .*is outside .*The file exists.*set dataset\.source to {tmp_path} "
    with pytest.raises(StudyError, match=words):
        manifest(folder, "csv")
    (folder / "t.csv").write_text("path,label\n../photos/../photos2/none.png,x\n")
    with pytest.raises(StudyError, match=r"is outside .*the folder of the data set$"):
        manifest(folder, "csv")
    (folder / "t.csv").write_text("path,label\n.,x\n")
    with pytest.raises(StudyError, match="is outside"):
        manifest(folder, "csv")


def test_backslashes_in_a_table(tmp_path):
    """Would catch the paths of a table from Windows, or a name that really has a backslash."""
    folder = csv_folder(tmp_path, "path,label\nhat\\0.png,x\n.\\shoe\\0.png,y\n")
    assert manifest(folder, "csv")["path"].tolist() == ["hat/0.png", "shoe/0.png"]
    (folder / "shoe" / "1.png").rename(folder / "a\\b.png")
    (folder / "t.csv").write_text("path,label\na\\b.png,x\nhat\\0.png,y\n")
    assert manifest(folder, "csv")["path"].tolist() == ["a\\b.png", "hat/0.png"]
    (folder / "t.csv").write_text("path,label\n..\\..\\x.png,x\n")
    with pytest.raises(StudyError, match="is outside"):
        manifest(folder, "csv")


def test_one_image_under_two_spellings_of_cub_is_refused(tmp_path):
    """Would catch an image that is counted twice."""
    images = CUB["images"].replace("hat/1.png", "hat/../hat/0.png")
    with pytest.raises(StudyError, match=r"images\.txt:2: images 1 and 2 have the same path"):
        manifest(cub_folder(tmp_path, images=images), "cub")


# Tables of open-metric-learning.


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        # As its converters write CUB: boxes as whole numbers, truths only for validation.
        (
            "label,path,split,is_query,is_gallery,x_1,x_2,y_1,y_2\n"
            "0,hat/0.png,train,,,0,4,0,3\n0,hat/1.png,validation,True,True,1,3,1,3\n"
            "1,shoe/0.png,train,,,0,4,0,3\n1,shoe/1.png,validation,True,True,0,4,0,3\n",
            ["train", "test", "train", "test"],
        ),
        # With an index, sequences and categories, truths as floats.
        (
            ",label,path,split,is_query,is_gallery,category,sequence\n"
            "0,0,hat/0.png,train,,,a,s1\n1,0,hat/1.png,validation,1.0,0.0,a,s2\n"
            "2,1,shoe/0.png,validation,0.0,1.0,b,s3\n3,1,shoe/1.png,validation,0.0,1.0,b,s3\n",
            ["train", "test", "train", "train"],
        ),
        # With paths that start at the folder beside the table.
        (
            "label,path,split,is_query,is_gallery\n"
            "0,../photos/hat/0.png,train,,\n0,../photos/hat/1.png,validation,1,0\n"
            "2,../photos/shoe/0.png,validation,1,0\n2,../photos/shoe/1.png,validation,0,1\n",
            ["train", "test", "test", "train"],
        ),
    ],
)
def test_tables_of_open_metric_learning(tmp_path, text, parts):
    """Would catch a table in that library's layout that is refused or read otherwise."""
    table = manifest(csv_folder(tmp_path / "photos", text), "csv")
    assert table["official_part"].tolist() == parts
    assert table["path"].tolist() == ["hat/0.png", "hat/1.png", "shoe/0.png", "shoe/1.png"]


# Bounding boxes.


@pytest.mark.parametrize(
    "box", ["0 0 -4 3", "0 0 4 -3", "0 0 0 3", "4 3 0 0", "1 1 inf 2", "-inf 0 4 3"]
)
def test_boxes_without_area_are_refused_by_line(tmp_path, box):
    """Would catch a box of negative size, which falls out of the scores without a word."""
    boxes = CUB["bounding_boxes"].replace("3 0 0 4 3", f"3 {box}")
    with pytest.raises(StudyError, match=r"bounding_boxes\.txt:3: the box is empty"):
        manifest(cub_folder(tmp_path / "b", bounding_boxes=boxes), "cub")
    x, y, width, height = map(float, box.split())
    text = f"path,label,x_1,x_2,y_1,y_2\nhat/0.png,x,{x},{x + width},{y},{y + height}\n"
    with pytest.raises(StudyError, match=r"t\.csv:2: .*(the box is empty|not four numbers)"):
        manifest(csv_folder(tmp_path / "c", text), "csv")


@pytest.mark.parametrize("value", ["nan", "x", "1_0", "0x1", ""])
def test_boxes_that_are_no_numbers_are_refused(tmp_path, value):
    """Would catch 1_0 taken for 10, or NaN that enters the manifest."""
    text = f"path,label,x_1,x_2,y_1,y_2\nhat/0.png,x,0,{value},0,3\n"
    with pytest.raises(StudyError, match=r"t\.csv:2: .*not four numbers"):
        manifest(csv_folder(tmp_path, text), "csv")


def test_boxes_outside_their_images_are_counted(tmp_path, caplog):
    """Would catch boxes outside their images that nobody hears of."""
    boxes = "1 6 0 4 3\n2 0 9 2 2\n3 -3 0 5 3\n4 0 0 6.9 4\n"
    folder = cub_folder(tmp_path, bounding_boxes=boxes)
    with caplog.at_level(logging.WARNING):
        manifest(folder, "cub")
    assert "2 of 4 bounding boxes lie outside their images" in caplog.text
    assert "1 of 4 bounding boxes reach beyond their images" in caplog.text
    found = problems(folder, "cub")
    assert found["must_be_fixed"].tolist() == ["no", "no"]
    assert "images/hat/0.png, images/hat/1.png" in found["problem"][0]
    assert "images/shoe/0.png" in found["problem"][1]
    assert boxes_without_score(manifest(folder, "cub"), np.arange(4), "squash32", 32) == (4, 2)


def test_boxes_inside_their_images_need_no_words(tmp_path, caplog):
    """Would catch a warning about good boxes, or about an edge that was rounded up."""
    with caplog.at_level(logging.WARNING):
        table = manifest(cub_folder(tmp_path), "cub")
    assert caplog.text == ""
    assert boxes_without_score(table, np.arange(4), "squash32", 32) == (4, 0)
    assert boxes_without_score(table.drop(columns="box_x"), [0], "squash32", 32) == (0, 0)


@pytest.mark.parametrize(
    ("boxes", "outside", "words"),
    [
        (5, 5, "the bounding boxes of all 5 queries that have one lie outside the crop"),
        (5, 2, "no box covers a pixel of its crop, or no map has heat"),
        (0, 0, None),
    ],
)
def test_page_says_why_no_box_is_scored(boxes, outside, words):
    """Would catch a page that is silent when all boxes fall out."""
    page = render_fragment(
        "report_heatmaps.html.j2",
        seed=1,
        layer="layer4",
        cases=[],
        found=[],
        localisation=[],
        boxes=boxes,
        outside=outside,
    )
    assert (words in page) if words else ("bounding box" not in page)


def test_page_counts_boxes_that_are_not_scored():
    """Would catch a table whose number of queries is smaller than that of boxes, without a word."""
    names = ("share_in_box", "pointing_accuracy")
    row = {"map": "uniform", "queries": 3, "maps_without_heat": 0}
    row |= {f"{name}{end}": 0.5 for name in names for end in ("", "_low", "_high")}
    page = render_fragment(
        "report_heatmaps.html.j2",
        seed=1,
        layer="layer4",
        cases=[],
        found=[],
        localisation=[row],
        boxes=5,
        outside=2,
    )
    assert "2 of the 5 queries with a bounding box are not scored" in page
