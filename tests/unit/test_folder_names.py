"""Folders of photographs with any names: what is listed is counted right, or refused in words.

HYPOTHESIS_PROFILE=thorough tries many more trees.
"""

import os
import tempfile
import unicodedata
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats import folders
from dmlstudy.data.image_files import EXTENSIONS, NOT_READ, find_image_files, of_a_program
from dmlstudy.data.listing import list_rows
from dmlstudy.plan.fingerprint import data_fingerprint
from dmlstudy.use.photographs import find_photos, stored_path

ODD = [
    *(
        "Grünfink",
        "Gru\u0308nfink",
        "GRÜNFINK",
        "-r",
        "--help",
        "a b",
        " a",
        "a ",
        "...",
        "a.",
        "~",
    ),
    *(
        "a\nb",
        "a\rb",
        "a\tb",
        "\x1b[31m",
        "a\u2028b",
        "\u202egpj",
        "\u200b",
        "שלום",
        "日本語",
        "🦜",
    ),
    *('"', "'", "a,b", "a;b", "$(x)", "*", "[a]", "{x}", "%s", "\\", "con", "NA", "null", "None"),
    *("1", "01", "10", "١", "caf\udce9", "x" * 200, "Thumbs", "@eaDir", ".hidden", "train", "test"),
    *("val_set", "images.jpg", "<b>", "&amp;", "é" * 100, "\x7f", "\x80", "\ufeff", "a:b", "|"),
]
free = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
)
name = st.one_of(st.sampled_from(ODD), free).filter(
    lambda text: text not in (".", "..") and len(os.fsencode(text)) <= 240
)
extension = st.sampled_from(
    [".jpg", ".JPEG", ".png", ".avif", ".tiff", ".heic", ".CR2", ".txt", "", ".jpg.bak", ". jpg"]
)
file_name = st.builds(lambda stem, end: stem + end, name, extension)
content = st.binary(max_size=2)
leaf = st.dictionaries(file_name, content, max_size=4)
# {name: bytes of a file, or a folder, or None for a named pipe, or text for a link}.
tree = st.recursive(
    leaf,
    lambda inner: st.dictionaries(
        name | file_name, inner | content | st.none() | st.sampled_from([".", "..", "a", "x.jpg"])
    ),
    max_leaves=6,
)
photos = st.dictionaries(
    st.sampled_from(["1.jpg", "2.png", "ä.webp", "x y.tif"]), content, min_size=1, max_size=3
)
classes = st.dictionaries(st.sampled_from(["hat", "shoe", "dress"]), photos, min_size=1)
# Most trees have classes; names that no table can hold would otherwise refuse nearly all.
data_set = st.builds(
    lambda sound, odd, inside: {
        key: {**inside, **value} if isinstance(value, dict) else value
        for key, value in {**odd, **sound}.items()
    },
    classes | st.just({}),
    st.dictionaries(name, leaf | tree | photos | content, max_size=3),
    tree | st.just({}),
)


def make(folder, spec):
    """Make a tree on the disk."""
    folder.mkdir()
    for key, value in spec.items():
        path = folder / key
        if isinstance(value, dict):
            make(path, value)
        elif isinstance(value, bytes):
            path.write_bytes(value)
        elif value is None:
            os.mkfifo(path)
        else:
            path.symlink_to(value)


def visible(text):
    return not text.startswith(".") and not of_a_program(text)


def images(spec, prefix=""):
    """{path: content} of the images in a tree without links, by its description."""
    found = {}
    for key, value in spec.items():
        if isinstance(value, dict) and visible(key):
            found |= images(value, f"{prefix}{key}/")
        end = os.path.splitext(key)[1].lower()
        if isinstance(value, bytes) and not key.startswith(".") and end in EXTENSIONS:
            found[prefix + key] = value
    return found


def without_links(spec):
    return {
        key: without_links(value) if isinstance(value, dict) else value
        for key, value in spec.items()
        if not isinstance(value, str)
    }


def listed(folder):
    """What a data set lists, with the content of each file; None if it is refused in words."""
    try:
        names, rows = list_rows(folder, "folders")
    except StudyError as error:
        str(error).encode()
        return None
    return names, [{**row, "content": (folder / row["path"]).read_bytes()} for row in rows]


def digest(folder):
    return data_fingerprint(folder, folder.parent / "memory.json", data_format="folders")


@given(data_set)
def test_every_image_is_counted_once_or_refused_in_words(spec):
    """Would catch a traceback, an image that is skipped or counted twice, and a class that is lost."""
    spec = without_links(spec)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        make(folder, spec)
        found = listed(folder)
        assert digest(folder)
        if found is None:
            return
        names, rows = found
        for one in folders.left_out(folder, by_content=True):
            assert one.path not in {row["path"] for row in rows}
        classes = {key: one for key, one in spec.items() if isinstance(one, dict) and visible(key)}
        # A single outer folder is stepped into.
        prefix = ""
        while len(classes) == 1:
            ((outer, inner),) = classes.items()
            deeper = {k: v for k, v in inner.items() if isinstance(v, dict) and visible(k)}
            if not deeper:
                break
            prefix, classes = f"{prefix}{outer}/", deeper
        assert sorted(names) == sorted(unicodedata.normalize("NFC", key) for key in classes)
        expected = {
            f"{prefix}{key}/{path}": one
            for key, inner in classes.items()
            for path, one in images(inner).items()
        }
        assert {row["path"]: row["content"] for row in rows} == expected
        assert len(rows) == len(expected)
        for row in rows:
            key = row["path"].removeprefix(prefix).split("/")[0]
            assert names[row["class_id"]] == unicodedata.normalize("NFC", key)


@given(data_set, data_set, st.booleans())
def test_fingerprints_are_equal_exactly_if_the_listed_content_is(one, other, related):
    """Would catch a change that runs nothing, and a note that runs everything."""
    if related:
        other = {**one, **other}
    with tempfile.TemporaryDirectory() as place:
        results = []
        for index, spec in enumerate((one, other)):
            folder = Path(place) / str(index) / "photos"
            folder.parent.mkdir()
            make(folder, spec)
            results.append((listed(folder), digest(folder)))
        (first, first_digest), (second, second_digest) = results
        # What is not listed has the fingerprint of the reason.
        if first is not None or second is not None:
            assert (first == second) == (first_digest == second_digest)


@given(tree)
def test_photographs_to_name_are_found_or_left_out_in_words(spec):
    """Would catch a traceback, a pipe that is opened, or an image that is neither read nor named."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photos"
        make(folder, spec)
        paths, left = find_image_files(folder, by_content=True)
        found, problems, sentences = find_photos([folder])
        assert [folder / path for path in paths] == found
        assert len(sentences) == len(left)
        assert bool(problems) == (not found)
        for path in found:
            assert path.is_file()
            assert stored_path(path).isprintable() or "\n" not in stored_path(path)
        # Every file in a visible folder that looks like an image is found or named.
        known = {*paths, *(one.path for one in left)}
        named = without_links(spec)
        pending = [("", named)]
        while pending:
            prefix, inner = pending.pop()
            for key, value in inner.items():
                path = f"{prefix}{key}"
                if isinstance(value, dict) and visible(key):
                    pending.append((f"{path}/", value))
                end = os.path.splitext(key)[1].lower()
                if not isinstance(value, dict) and end in EXTENSIONS | NOT_READ:
                    assert path in known or key.startswith("._")
