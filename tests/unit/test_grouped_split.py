"""Splits in which copies, or groups of the user's, stand in one part."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from dmlstudy.core.files import StudyError
from dmlstudy.data.dataset import Dataset, draw_split, make_class_set
from dmlstudy.data.grouped_split import (
    group_parts,
    groups_by_pattern,
    groups_of,
    make_grouped_split,
    shares,
)


def manifest_of(class_ids):
    return pd.DataFrame(
        {
            "image_id": range(len(class_ids)),
            "path": [f"c{one}/{row}.jpg" for row, one in enumerate(class_ids)],
            "class_id": class_ids,
            "class_name": [f"class {one}" for one in class_ids],
        }
    )


def copies_of(*sets):
    rows = [(number, image_id) for number, ids in enumerate(sets) for image_id in ids]
    return pd.DataFrame(rows, columns=["set", "image_id"])


def split_of(manifest, **options):
    return make_grouped_split(manifest, **{**PLAIN, **options})


PLAIN = {"method": "stratified", "test_share": 0.2, "seed": 42}


@st.composite
def grouped_classes(draw):
    """(class of each image, group of each image): groups of many sizes, most within one class."""
    classes, groups = [], []
    for class_id in range(draw(st.integers(2, 5))):
        for size in draw(st.lists(st.integers(1, 12), min_size=2, max_size=12)):
            group = f"{class_id}-{len(groups)}"
            # Some groups reach into the class before.
            if groups and draw(st.integers(0, 9)) == 0:
                group = groups[-1]
            classes += [class_id] * size
            groups += [group] * size
    return classes, groups


@given(grouped_classes(), st.sampled_from([0.2, 0.35, 0.5]), st.integers(0, 2**32 - 1))
def test_no_group_stands_in_both_parts(case, share, seed):
    """Would catch a group in both parts, a lost image, or a share further off than half a group."""
    class_ids, groups = case
    manifest = manifest_of(class_ids)
    options = {"method": "stratified", "test_share": share, "seed": seed}
    try:
        before = draw_split(manifest, **options)
    except StudyError:
        # Fewer test images than classes.
        assume(False)
    options.pop("method")
    table, _ = group_parts(manifest, before, stratified=True, groups=groups, **options)
    again, _ = group_parts(manifest, before, stratified=True, groups=groups, **options)
    pd.testing.assert_frame_equal(table, again)
    assert table["image_id"].tolist() == list(range(len(manifest)))
    assert set(table["part"]) <= {"train", "test"}
    by_group = table["part"].groupby(np.array(groups))
    assert by_group.nunique().max() == 1
    spread = pd.Series(class_ids).groupby(np.array(groups)).nunique()
    pure = before["part"].groupby(np.array(groups)).transform("nunique") == 1
    for class_id in set(class_ids):
        rows = np.flatnonzero(np.array(class_ids) == class_id)
        sizes = pd.Series(groups)[rows].value_counts()
        if len(sizes) == 1 or (spread[sizes.index] > 1).any():
            continue
        tested = (table["part"][rows] == "test").sum()
        assert 0 < tested < len(rows)
        if min(tested, len(rows) - tested) > sizes.min():
            # Groups that stood in one part already stay there; the others come close to the share.
            assert (table["part"] == before["part"])[rows][pure[rows]].all()
            assert abs(tested - share * len(rows)) <= max(sizes.max() / 2, 1)


def test_shares_of_many_groups_are_better_than_those_of_a_fold():
    """Would catch shares by class that are worse than those of scikit-learn's StratifiedGroupKFold."""
    draw = np.random.default_rng(3)
    class_ids, groups = [], []
    for class_id in range(40):
        for size in draw.integers(1, 13, 12):
            groups += [len(set(groups))] * size
            class_ids += [class_id] * size
    manifest = manifest_of(class_ids)
    split, _ = split_of(manifest, groups=[str(one + 1) for one in groups])
    fold = StratifiedGroupKFold(5, shuffle=True, random_state=42)
    _, tested = next(fold.split(class_ids, class_ids, groups))
    theirs = pd.Series(np.isin(range(len(class_ids)), tested)).groupby(class_ids).mean()
    ours = shares(manifest, split)
    assert abs(ours - 0.2).mean() < abs(theirs - 0.2).mean()
    assert abs(ours - 0.2).max() < 0.08
    assert abs((split["part"] == "test").mean() - 0.2) < 0.02


def test_without_copies_the_split_is_the_published_one():
    """Would catch photographs that move although no group concerns them."""
    manifest = manifest_of(np.repeat(range(6), 30).tolist())
    plain = draw_split(manifest, **PLAIN)
    tested = plain.loc[plain["part"] == "test", "image_id"].tolist()
    split, changes = split_of(manifest, duplicates="together", copies=copies_of())
    pd.testing.assert_frame_equal(split, plain, check_dtype=False)
    assert changes.empty
    # A copy in the other part: only this set changes.
    other = next(one for one in range(30) if one not in tested)
    split, changes = split_of(manifest, duplicates="together", copies=copies_of([tested[0], other]))
    differing = split.loc[split["part"] != plain["part"], "image_id"].tolist()
    assert differing in ([tested[0]], [other])
    assert changes["image_id"].tolist() == sorted([tested[0], other])
    assert changes["group"].nunique() == 1
    moved = changes.set_index("image_id").loc[differing[0]]
    assert moved["why"] == (
        f"moved from {moved['without_groups']} to {moved['part']}, so that its group stands in one part"
    )


def test_dropped_copies_keep_one_and_none_in_conflict():
    """Would catch a set of which none or two are kept, or a label that is chosen for a copy in two classes."""
    manifest = manifest_of(np.repeat(range(4), 20).tolist())
    plain = draw_split(manifest, **PLAIN)["part"]
    tested, trained = (np.flatnonzero(plain[:20] == part) for part in ("test", "train"))
    sets = [trained[0], tested[0], tested[1]], [trained[1], trained[2]], [trained[3], 45]
    split, changes = split_of(manifest, duplicates="drop", copies=copies_of(*sets))
    parts = split["part"]
    # The first test image of a set is kept: the test part loses only what it holds twice.
    assert [parts[row] for row in sets[0]] == ["dropped", "test", "dropped"]
    assert [parts[row] for row in sets[1]] == ["train", "dropped"]
    assert [parts[row] for row in sets[2]] == ["dropped", "dropped"]
    why = changes.set_index("image_id")["why"]
    assert why[trained[0]] == f"dropped: a copy of c0/{tested[0]}.jpg"
    assert why[45] == "dropped: copies of it are in several classes (class 0, class 2)"
    assert set(changes["image_id"]) == {row for rows in sets for row in rows} - {
        tested[0],
        trained[1],
    }
    rest = ~split["image_id"].isin([row for rows in sets for row in rows])
    assert (parts[rest] == plain[rest]).all()
    # Nothing of them reaches a training or a test.
    dataset = Dataset(manifest, split, make_class_set(4, "all_classes", unseen=0))
    used = {*dataset.images("train"), *dataset.images("test")}
    assert used == set(range(80)) - set(split.index[parts == "dropped"])


def test_official_split_moves_a_group_to_where_most_of_it_is():
    """Would catch validation images that are used, or a test part that grows without need."""
    parts = ["train"] * 4 + ["test"] * 4 + ["validation"] * 2
    manifest = manifest_of([0] * 10).assign(official_part=parts)
    groups = ["a", "a", "b", "c", "b", "a", "d", "b", "a", "c"]
    split, changes = split_of(manifest, method="official", groups=groups)
    assert split["part"].tolist() == [
        *("train", "train", "test", "train", "test", "train", "test", "test"),
        *("validation", "validation"),
    ]
    assert changes.loc[changes["why"] != "", "image_id"].tolist() == [2, 5]


def test_class_that_is_one_group_is_refused():
    """Would catch a class without test images that ends the study later, or without a reason."""
    manifest = manifest_of([0] * 6 + [1] * 6)
    groups = ["a"] * 6 + ["b", "b", "b", "c", "c", "c"]
    with pytest.raises(
        StudyError, match=r"class 'class 0': all of its 6 photographs are one group"
    ):
        split_of(manifest, groups=groups)
    # Two groups are enough, whatever their size.
    split, _ = split_of(manifest, groups=["a"] * 5 + ["z"] + groups[6:])
    assert split["part"].groupby(manifest["class_id"]).nunique().tolist() == [2, 2]


def test_copies_and_groups_are_one_group():
    """Would catch a burst and a copy of one of its photographs in another part."""
    manifest = manifest_of([0] * 20)
    groups = ["a", "a", "a"] + [None] * 17
    split, changes = split_of(
        manifest, groups=groups, duplicates="together", copies=copies_of([2, 10], [10, 19])
    )
    assert split["part"][[0, 1, 2, 10, 19]].nunique() == 1
    assert changes["group"].tolist() == [0] * 5


def test_groups_by_a_pattern():
    """Would catch a pattern that is matched only at the start, or one without a match that is ignored."""
    paths = ["x/burst1_a.jpg", "x/burst1_b.jpg", "y/burst1_a.jpg", "y/other.jpg"]
    assert groups_by_pattern(paths, r"(burst\d+)_") == ["burst1", "burst1", "burst1", None]
    one, two, three, four = groups_by_pattern(paths, r"^(\w+)/(burst\d+)_")
    assert one == two != three
    assert four is None
    with pytest.raises(StudyError, match=re.escape("(film)")):
        groups_by_pattern(paths, "(film)")


def test_groups_by_a_column(tmp_path):
    """Would catch a column that is read for other photographs, or a misspelt one that groups nothing."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/list.csv").write_text(
        "path,label,bird\nin/a.jpg,x,r1\nin/b.jpg,x,\nin/c.jpg,y,r1\n", encoding="utf-8"
    )
    paths = ["photos/in/c.jpg", "photos/in/a.jpg", "photos/in/b.jpg"]
    assert groups_of(tmp_path, paths, column="bird") == ["r1", "r1", ""]
    assert groups_of(tmp_path, paths, column="bird", csv="photos/list.csv") == ["r1", "r1", ""]
    with pytest.raises(StudyError, match="no column 'brid'; did you mean bird"):
        groups_of(tmp_path, paths, column="brid")
    assert groups_of(tmp_path, paths) is None
