"""What a folder of photographs lists, what it leaves out, and the fingerprint that follows from it."""

import errno
import os
import unicodedata

import pytest
from PIL import Image

from dmlstudy.core.files import StudyError
from dmlstudy.data.class_names import in_order
from dmlstudy.data.formats import folders
from dmlstudy.data.image_files import EXTENSIONS, NOT_READ, find_image_files
from dmlstudy.data.listing import left_out, list_rows
from dmlstudy.data.manifest import make_manifest
from dmlstudy.data.problems import find_problems
from dmlstudy.plan.fingerprint import data_fingerprint, fingerprint
from dmlstudy.use.gallery import spelled
from dmlstudy.use.photographs import class_name_of, find_photos


def write(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content or os.fsencode(path))
    return path


def listed(folder, data_format="folders"):
    """{class name: paths}."""
    names, rows = list_rows(folder, data_format)
    return {
        name: [row["path"] for row in rows if row["class_id"] == index]
        for index, name in enumerate(names)
    }


def reasons(folder, **options):
    return {one.path: one.reason for one in folders.left_out(folder, **options)}


def digest(folder, data_format="folders"):
    memory = folder.parent / "memory" / "fingerprint.json"
    return data_fingerprint(folder, memory, data_format=data_format)


@pytest.fixture
def photos(tmp_path):
    for name in ("hat/1.jpg", "hat/2.jpg", "shoe/1.jpg", "shoe/deep/2.jpg"):
        write(tmp_path / "photos" / name)
    return tmp_path / "photos"


# Fingerprints.


@pytest.mark.parametrize("place", ["class", "inside"])
def test_photographs_in_linked_folders_are_in_the_fingerprint(tmp_path, photos, place):
    """Would catch replaced, added or removed images behind a link that run nothing again."""
    target = tmp_path / "elsewhere"
    write(target / "1.jpg")
    link = photos / "dress" if place == "class" else photos / "hat" / "more"
    link.symlink_to(target)
    seen = {digest(photos)}
    for change in (
        lambda: write(target / "1.jpg", b"another"),
        lambda: write(target / "2.jpg"),
        lambda: (target / "1.jpg").unlink(),
    ):
        change()
        seen.add(digest(photos))
    assert len(seen) == 4


def test_a_copy_that_keeps_size_and_time_is_in_the_fingerprint(photos):
    """Would catch a photograph that `cp -p` replaced by one of the same size and time."""
    first = write(photos / "hat" / "1.jpg", b"one")
    status, before = first.stat(), digest(photos)
    write(first, b"two")
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest(photos) != before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_digests_that_cannot_be_remembered_are_computed(photos, monkeypatch, number):
    """Would catch a plan that ends because the disk is full, though only a memory cannot be written."""
    wanted = digest(photos)
    (photos.parent / "memory" / "fingerprint.json").unlink()

    def refused(*paths):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refused)
    assert digest(photos) == wanted
    assert list((photos.parent / "memory").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "hat/notes.txt", "hat/x.heic", ".cache/1.jpg", "hat/@eaDir/1.jpg", "loose.jpg"],
)
def test_files_that_are_not_listed_are_not_in_the_fingerprint(photos, name):
    """Would catch a note or a thumbnail that trains everything again."""
    before = digest(photos)
    write(photos / name)
    assert digest(photos) == before


def test_results_in_the_photo_folder_are_neither_listed_nor_in_the_fingerprint(tmp_path):
    """Would catch `source: .`, where the results of a study train everything again, or are a class."""
    for name in ("hat/1.jpg", "shoe/1.jpg", "results/mine/page.jpg"):
        write(tmp_path / name)
    memory = tmp_path / "results" / "mine" / "fingerprint.json"
    before = data_fingerprint(tmp_path, memory, data_format="folders")
    write(tmp_path / "results" / "mine" / "map.png")
    assert data_fingerprint(tmp_path, memory, data_format="folders") == before
    assert list_rows(tmp_path, "folders", own=memory)[0] == ["hat", "shoe"]
    assert list_rows(tmp_path, "folders")[0] == ["hat", "results", "shoe"]


@pytest.mark.parametrize("data_format", ["csv", "cub"])
def test_tables_are_in_the_fingerprint_as_far_as_they_are_listed(tmp_path, data_format):
    """Would catch a changed label that runs nothing, or another note that runs everything."""
    folder = tmp_path / "data"
    if data_format == "csv":
        table = write(folder / "t.csv", b"path,label\nimages/1.jpg,a\nimages/2.jpg,b\n")
    else:
        write(folder / "images.txt", b"1 1.jpg\n2 2.jpg\n")
        write(folder / "classes.txt", b"1 a\n2 b\n")
        table = write(folder / "image_class_labels.txt", b"1 1\n2 2\n")
    for number in "123":
        write(folder / "images" / f"{number}.jpg")
    before = digest(folder, data_format)
    write(folder / "notes.txt")
    write(folder / "images" / "3.jpg", b"not listed")
    assert digest(folder, data_format) == before
    table.write_bytes(table.read_bytes().replace(b",b", b",a").replace(b"2 2", b"2 1"))
    labelled = digest(folder, data_format)
    assert labelled != before
    write(folder / "images" / "2.jpg", b"another")
    assert digest(folder, data_format) != labelled
    # A listed image that is missing does not stop planning: the check-up names it.
    (folder / "images" / "2.jpg").unlink()
    assert digest(folder, data_format)
    # Nor does a broken table, and mending it is noticed.
    write(table, b"?")
    assert digest(folder, data_format) != before


def test_fingerprint_does_not_depend_on_the_place(tmp_path, photos):
    """Would catch a moved folder that is taken for another data set."""
    before = digest(photos)
    os.rename(photos, tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert digest(tmp_path / "moved") == digest(tmp_path / "link") == before


def test_pipes_are_never_opened(tmp_path, photos):
    """Would catch planning, listing or naming that waits forever for a pipe."""
    before = digest(photos)
    os.mkfifo(photos / "hat" / "pipe.jpg")
    os.mkfifo(photos / "hat" / "other")
    assert digest(photos) == before
    assert "a pipe" in reasons(photos, by_content=True)["hat/pipe.jpg"]
    assert "a pipe" in reasons(photos)["hat/other"]
    assert fingerprint(photos, tmp_path / "memory.json")
    _, problems, _ = find_photos([photos / "hat" / "pipe.jpg"])
    assert "is neither a file nor a folder" in problems[0]
    with pytest.raises(StudyError, match="is neither a file nor a folder"):
        fingerprint(photos / "hat" / "pipe.jpg", tmp_path / "memory.json")
    # A table that names a pipe, or is one.
    os.mkfifo(tmp_path / "pipes.csv")
    write(tmp_path / "t.csv", b"path,label\nphotos/hat/pipe.jpg,a\n")
    assert data_fingerprint(tmp_path, tmp_path / "m.json", data_format="csv")
    with pytest.raises(StudyError, match="not a file of an image"):
        make_manifest(tmp_path, "csv", max_pixels=100)


# What is listed.


def test_extensions_are_those_that_pillow_opens():
    """Would catch a format that Pillow reads and nobody mentions, or one that it does not open."""
    Image.init()
    # Pillow registers .spider when it writes such a file.
    known = set(Image.registered_extensions()) - {".spider"}
    opened = {e for e, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    # Pillow opens .mpo files as JPEG. Videos, and data that Pillow has no decoder for, are no images.
    assert opened | {".mpo"} >= EXTENSIONS
    assert known - EXTENSIONS - NOT_READ == {".h5", ".hdf", ".mpg", ".mpeg"}
    assert not EXTENSIONS & NOT_READ


@pytest.mark.parametrize("name", ["x.heic", "x.JXL", "x.cr2", "x.DNG", "x.svg", "x.dcm"])
def test_images_of_other_formats_are_named(photos, name):
    """Would catch images that are skipped without a word."""
    write(photos / "hat" / name)
    assert "not read; convert" in reasons(photos)[f"hat/{name}"]
    problems, _ = find_problems(
        photos,
        "folders",
        max_pixels=100,
        split={"method": "official", "test_share": 0.5, "seed": 1},
    )
    row = problems[problems["kind"] == "left out"].iloc[0]
    assert (row["must_be_fixed"], row["path"]) == ("no", f"hat/{name}")
    found, _, left = find_photos([photos / "hat"])
    assert len(found) == 2
    assert f"{photos / 'hat' / name}: left out" in left[0]


@pytest.mark.parametrize("name", ["IMG_0412", "1.jpg.bak", "2.jpg_large"])
def test_images_with_another_name_are_named(photos, name):
    """Would catch an image without an extension that nobody misses."""
    Image.new("RGB", (3, 3)).save(photos / "hat" / name, "JPEG")
    write(photos / "hat" / "notes.txt", b"no image")
    assert reasons(photos, by_content=True) == {
        f"hat/{name}": "holds an image (JPEG), but its name has no extension of an image; rename it"
    }


@pytest.mark.parametrize(
    "name", ["photo.jfif", "photo.AVIF", "photo.jp2", "photo.pgm", "photo.tga"]
)
def test_formats_that_pillow_reads_are_listed(photos, name):
    """Would catch images that are skipped although the product can read them."""
    write(photos / "hat" / name)
    assert f"hat/{name}" in listed(photos)["hat"]


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "System Volume Information"),
        *("lost+found", "__pycache__", "Thumbs", ".thumbnails", ".ipynb_checkpoints"),
        "Lightroom Previews.lrdata",
    ],
)
def test_folders_of_programs_are_neither_classes_nor_in_them(photos, name):
    """Would catch thumbnails of a photo server that become photographs."""
    before = listed(photos)
    for place in ("", "hat/", "shoe/deep/"):
        write(photos / f"{place}{name}" / "1.jpg" / "thumbnail.jpg")
    assert listed(photos) == before
    assert set(reasons(photos, by_content=True)) == {
        f"{place}{name}" for place in ("", "hat/", "shoe/deep/")
    }


def test_linked_folders_are_listed_once_and_circles_end(tmp_path, photos):
    """Would catch images behind a link that are not reached, counted twice, or without end."""
    write(tmp_path / "more" / "3.jpg")
    (tmp_path / "more" / "back").symlink_to(photos)
    (photos / "hat" / "a").symlink_to(tmp_path / "more")
    (photos / "hat" / "b").symlink_to(tmp_path / "more")
    (photos / "shoe" / "up").symlink_to("..")
    (photos / "shoe" / "again").symlink_to("deep")
    (photos / "hat" / "gone.jpg").symlink_to("nowhere")
    (photos / "hat" / "self.jpg").symlink_to("self.jpg")
    assert listed(photos) == {
        "hat": ["hat/1.jpg", "hat/2.jpg", "hat/a/3.jpg"],
        "shoe": ["shoe/1.jpg", "shoe/deep/2.jpg"],
    }
    found = reasons(photos)
    assert set(found) == {
        *("hat/a/back", "hat/b", "hat/gone.jpg", "hat/self.jpg", "shoe/again", "shoe/up")
    }
    assert found["hat/b"] == "is the same folder as a, which is listed"


def test_single_folder_that_holds_itself_ends(tmp_path):
    """Would catch the search for the outer folder running in a circle."""
    write(tmp_path / "outer" / "1.jpg")
    (tmp_path / "outer" / "outer").symlink_to(".")
    assert listed(tmp_path) == {"outer": ["outer/outer/1.jpg"]}


def test_images_beside_the_classes_are_named(tmp_path, photos):
    """Would catch images that no class holds, at each level, and nobody mentions."""
    write(photos / "loose.jpg")
    write(photos / "loose.heic")
    write(photos / "notes.txt")
    assert set(reasons(photos)) == {"loose.jpg", "loose.heic"}
    write(tmp_path / "outer" / "x.png")
    os.rename(photos, tmp_path / "outer" / "photos")
    assert set(reasons(tmp_path / "outer")) == {"x.png", "photos/loose.jpg", "photos/loose.heic"}


def test_images_that_no_table_lists_are_named(tmp_path):
    """Would catch photographs beside a table that nobody misses."""
    write(tmp_path / "t.csv", b"path,label\na/1.jpg,x\n")
    for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "results/mine/4.jpg"):
        write(tmp_path / name)
    rows = list_rows(tmp_path, "csv")[1]
    found = left_out(tmp_path, "csv", rows, own=tmp_path / "results" / "mine" / "x.csv")
    assert [(one.path, one.reason) for one in found] == [
        ("a", "holds 2 image(s) that no table lists: a/2.jpg, a/3.jpg")
    ]


# Classes.


@pytest.mark.parametrize(
    "parts",
    [
        ("seg_train", "seg_test"),
        ("train", "dev", "test"),
        ("training_set", "test_set"),
        ("Train Data", "TestData"),
        ("A", "B"),
        ("fold 1", "fold 2", "fold 3"),
        ("caf\udce9", "B"),
    ],
)
def test_parts_of_a_data_set_are_no_classes(tmp_path, parts):
    """Would catch the parts of a split taken for classes, whatever they are called."""
    for part in parts:
        for name in ("hat", "shoe", "dress"):
            write(tmp_path / part / name / "1.jpg")
    with pytest.raises(StudyError, match="look like parts of a split") as error:
        list_rows(tmp_path, "folders")
    str(error.value).encode()
    write(tmp_path / "labels" / "labels.txt")
    with pytest.raises(StudyError, match="look like parts of a split"):
        list_rows(tmp_path, "folders")
    assert data_fingerprint(tmp_path, tmp_path / "m.json", data_format="folders")


def test_part_without_classes_is_no_class(tmp_path):
    """Would catch test images without labels that become a class."""
    for name in ("seg_train/hat/1.jpg", "seg_train/shoe/1.jpg", "seg_test/1.jpg"):
        write(tmp_path / name)
    with pytest.raises(StudyError, match="look like parts of a split"):
        list_rows(tmp_path, "folders")


@pytest.mark.parametrize(
    "names",
    [
        ("hat/images/1.jpg", "shoe/images/1.jpg"),
        ("hat/1.jpg", "hat/a/1.jpg", "hat/b/1.jpg", "shoe/2.jpg", "shoe/a/1.jpg", "shoe/b/1.jpg"),
        ("hat/2019/1.jpg", "shoe/2020/1.jpg"),
        ("train/1.jpg", "car/1.jpg"),
        ("test pattern/1.jpg", "train/1.jpg"),
    ],
)
def test_classes_with_subfolders_are_classes(tmp_path, names):
    """Would catch classes that are refused because of their subfolders or their names."""
    for name in names:
        write(tmp_path / name)
    assert sum(map(len, listed(tmp_path).values())) == len(names)


def test_classes_that_are_numbers_are_sorted_as_numbers(tmp_path):
    """Would catch class folders in another order than the same labels of a table."""
    for number in range(1, 13):
        write(tmp_path / "a" / str(number) / "1.jpg")
        write(tmp_path / "b" / f"class {number}" / "1.jpg")
    assert list(listed(tmp_path / "a")) == [str(number) for number in range(1, 13)]
    assert list(listed(tmp_path / "b"))[:2] == ["class 1", "class 10"]
    assert in_order(["10", "9", "x"]) == ["10", "9", "x"]


NFC, NFD = (unicodedata.normalize(form, "Grünfink") for form in ("NFC", "NFD"))


def test_two_spellings_of_one_class_are_refused(tmp_path):
    """Would catch two classes that look the same, in folders and in tables."""
    for name in (NFC, NFD):
        write(tmp_path / "photos" / name / "1.jpg")
    with pytest.raises(StudyError, match="two Unicode spellings") as error:
        list_rows(tmp_path / "photos", "folders")
    assert ascii(NFC) in str(error.value)
    assert ascii(NFD) in str(error.value)
    write(tmp_path / "t.csv", f"path,label\n1.jpg,{NFC}\n2.jpg,{NFD}\n".encode())
    with pytest.raises(StudyError, match="two Unicode spellings"):
        list_rows(tmp_path, "csv")


def test_names_are_composed_and_paths_are_as_on_disk(tmp_path):
    """Would catch a table from another system whose images are not found, or two names of a class."""
    for name in ("other/1.jpg", f"{NFD}/1.jpg"):
        write(tmp_path / name)
    assert listed(tmp_path)[NFC] == [f"{NFD}/1.jpg"]
    write(tmp_path / "t.csv", f"path,label\n{NFC}/1.jpg,{NFD}\n".encode())
    assert listed(tmp_path, "csv") == {NFC: [f"{NFD}/1.jpg"]}
    assert class_name_of(NFD) == NFC
    assert spelled([NFD, "other"], NFC) == NFD
    assert spelled(["other"], NFC) == NFC


def test_names_that_look_alike_are_told(tmp_path):
    """Would catch `Hat` and `hat`, or a zero-width space, that nobody sees."""
    for index, name in enumerate(("Hat", "hat", "s\u200bhoe", "shoe")):
        for number in range(3):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (4, 4), (index, number, 0)).save(path)
    problems, _ = find_problems(
        tmp_path,
        "folders",
        max_pixels=100,
        split={"method": "stratified", "test_share": 0.5, "seed": 1},
    )
    assert problems["must_be_fixed"].tolist() == ["no", "no"]
    assert problems["problem"].str.contains("differ only in case").all()


def test_places_that_cannot_be_read_do_not_stop_the_others(tmp_path, photos):
    """Would catch photographs that are not named because one name is too long, or leads through a file."""
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    good = photos / "hat" / "1.jpg"
    places = [tmp_path / ("x" * 300), good / "in a file", tmp_path / "circle", tmp_path / "none"]
    found, problems, _ = find_photos([*places, good])
    assert found == [good]
    assert [one.partition(": ")[0] for one in problems] == list(map(str, places))
    assert problems[0].endswith("cannot be read: File name too long")
    assert problems[3].endswith("no such file or folder")


def test_folder_that_cannot_be_listed_is_an_error(tmp_path, photos, monkeypatch):
    """Would catch a folder without permission that is silently not counted."""
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(StudyError, match="deep: cannot be read: Permission denied"):
        find_image_files(photos / "shoe")
    _, problems, _ = find_photos([photos])
    assert "Permission denied" in problems[0]
