"""A split in which photographs that belong together stand in one part: copies, or groups of the user's.

It starts from the split that the study would draw without groups and changes only what must change.
scikit-learn's ``StratifiedGroupKFold`` leaves classes of few groups without test images, and its
``GroupShuffleSplit`` counts groups where photographs count; so groups are placed here.
"""

import re

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dmlstudy.core.by_class import rows_by_class
from dmlstudy.core.files import StudyError
from dmlstudy.core.names import first_of
from dmlstudy.data.class_names import composed
from dmlstudy.data.dataset import classes_missing_from_a_part, draw_split, too_small_classes
from dmlstudy.data.formats.csv_columns import read_column

DROPPED = "dropped"
# The parts that must not share a group. The study uses no others.
PARTS = ("train", "test")
# Random orders in which groups of a class are tried.
DRAWS = 20
COLUMNS = ["image_id", "path", "class_name", "group", "part", "without_groups", "why"]


def groups_of(folder, paths, *, column=None, pattern=None, csv=None):
    """The group of each path by a column of the data set's table or by a pattern, as a list of texts.

    Empty or None: a photograph on its own. None in place of the list if there is neither column nor
    pattern. ``csv``: see `csv_columns.read_column`. Raises StudyError where nothing has a group.
    """
    if column is not None:
        by_path = read_column(folder, column, csv)
        return [by_path.get(composed(path)) for path in paths]
    return None if pattern is None else groups_by_pattern(paths, pattern)


def groups_by_pattern(paths, pattern):
    """The group of each path by a regular expression, as a list of texts; None where it does not match.

    Raises StudyError if it matches no path.
    """
    searched = re.compile(pattern)
    matches = map(searched.search, paths)
    # Texts of several groups are joined by a character that no path holds.
    found = [one and "\0".join(text or "" for text in one.groups()) for one in matches]
    if paths and not any(found):
        raise StudyError(
            f"protocol.group_by.pattern: {pattern} matches no path of the data set, such as {paths[0]}"
        )
    return found


def make_grouped_split(
    manifest, *, method, test_share, seed, duplicates="keep", copies=None, groups=None
):
    """The split as two tables: ``image_id, part`` and what groups changed, with the columns `COLUMNS`.

    ``manifest``, ``method``, ``test_share``, ``seed``: see `dataset.make_split`. ``copies``: table of
    `copies.find_copies`; ``duplicates``: what is done with them ("keep", "together", "drop").
    ``groups``: a text per row of the manifest, None for photographs on their own.

    Dropped photographs get the part "dropped". Of each set of copies the first test image is kept, or the
    first image if none is for testing; of a set in several classes none is kept, because it is not
    known which class is right. Groups that stand in both parts are then placed anew: for a stratified
    split at random such that each class comes as close as possible to ``test_share`` photographs; for
    the data set's own split into the part that holds most of them, training if they are equally many.
    Photographs that groups do not concern stay where they were.

    The second table has a row for each photograph that is in a group of at least two, or that is
    dropped: ``group`` (0, 1, …; −1 if it is dropped), its ``part``, the part ``without_groups``, and
    ``why`` (a sentence, empty if nothing changed). Raises StudyError that names a class whose
    photographs are all in one group, or that has no image in a part.
    """
    for sentence in too_small_classes(manifest).values():
        raise StudyError(sentence)
    before = draw_split(manifest, method=method, test_share=test_share, seed=seed)
    table, changes = group_parts(
        manifest,
        before,
        stratified=method == "stratified",
        test_share=test_share,
        seed=seed,
        duplicates=duplicates,
        copies=copies,
        groups=groups,
    )
    for sentence in classes_in_one_group(manifest, table, changes).values():
        raise StudyError(sentence)
    for _, sentence in classes_missing_from_a_part(manifest, table, method):
        raise StudyError(sentence)
    return table, changes


def group_parts(
    manifest, before, *, stratified, test_share, seed, duplicates="keep", copies=None, groups=None
):
    """`make_grouped_split` from a split that was drawn ``before``, and without its checks."""
    parts = before["part"].to_numpy(dtype=object).copy()
    why = np.full(len(parts), "", dtype=object)
    paths = manifest["path"].to_numpy()
    row_of = pd.Series(np.arange(len(manifest)), index=manifest["image_id"])
    sets = []
    if copies is not None and duplicates != "keep":
        known = copies[copies["image_id"].isin(manifest["image_id"])]
        sets = [row_of[ids].to_numpy() for _, ids in known.groupby("set")["image_id"]]
    if duplicates == "drop":
        for rows in sets:
            _drop(rows, parts, why, paths, manifest["class_name"].to_numpy())
        sets = []
    labels = _components(len(parts), sets, groups)
    used = np.isin(parts, PARTS)
    _place(labels, manifest["class_id"].to_numpy(), parts, used, stratified, test_share, seed)
    was = before["part"].to_numpy(dtype=object)
    sizes = pd.Series(labels[used]).value_counts()
    grouped = used & (sizes.reindex(labels).fillna(0).to_numpy() > 1)
    moved = (parts != was) & (why == "")
    why[moved] = [
        f"moved from {old} to {new}, so that its group stands in one part"
        for old, new in zip(was[moved], parts[moved], strict=True)
    ]
    shown = grouped | (why != "")
    table = manifest.loc[shown, ["image_id", "path", "class_name"]].assign(
        group=np.where(used, labels, -1)[shown].astype(np.int64),
        part=parts[shown],
        without_groups=was[shown],
        why=why[shown],
    )
    kept = table["group"] >= 0
    table.loc[kept, "group"] = pd.factorize(table.loc[kept, "group"])[0]
    return before.assign(part=parts.astype(str)), table[COLUMNS].reset_index(drop=True)


def _drop(rows, parts, why, paths, class_names):
    """Mark the photographs of one set of copies that are dropped; ``rows``: of the set, in order."""
    names = sorted(set(class_names[rows]))
    if len(names) > 1:
        parts[rows] = DROPPED
        why[rows] = f"dropped: copies of it are in several classes ({first_of(names)})"
        return
    tested = [row for row in rows if parts[row] == "test"]
    kept = (tested or list(rows))[0]
    for row in rows:
        if row != kept:
            parts[row] = DROPPED
            why[row] = f"dropped: a copy of {paths[kept]}"


def _components(count, sets, groups):
    """A label (count,) that is equal for rows which a chain of sets and groups connects."""
    one, other = [], []
    by_text = {} if groups is None else _by_value(groups)
    for rows in (*sets, *by_text.values()):
        one += [rows[0]] * (len(rows) - 1)
        other += list(rows[1:])
    graph = coo_matrix((np.ones(len(one)), (one, other)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _by_value(values):
    found = {}
    for row, value in enumerate(values):
        if value:
            found.setdefault(value, []).append(row)
    return found


def _place(labels, class_ids, parts, used, stratified, test_share, seed):
    """Change ``parts`` so that each group stands in one of `PARTS`. Only ``used`` rows count."""
    groups = pd.Series(np.flatnonzero(used)).groupby(labels[used]).agg(list)
    mixed = [np.array(rows) for rows in groups if len(set(parts[rows])) > 1]
    if not stratified:
        for rows in mixed:
            tested = np.count_nonzero(parts[rows] == "test")
            parts[rows] = "test" if 2 * tested > len(rows) else "train"
        return
    target = test_share * np.bincount(class_ids[used])
    for rows in mixed:
        parts[rows] = ""
    count = np.bincount(class_ids[parts == "test"], minlength=len(target))
    draw = np.random.default_rng(seed)
    by_class = {}
    for rows in draw.permutation(np.arange(len(mixed))):
        own, added = np.unique(class_ids[mixed[rows]], return_counts=True)
        if len(own) == 1:
            by_class.setdefault(own[0], []).append(mixed[rows])
            continue
        # Groups in several classes are harder to balance, so they come before the others.
        missing = target[own] - count[own]
        nearer = ((missing - added) ** 2).sum() < (missing**2).sum()
        parts[mixed[rows]] = "test" if nearer else "train"
        count[own] += added * nearer
    for class_id in sorted(by_class):
        sizes = np.array([len(rows) for rows in by_class[class_id]])
        tested = _chosen(sizes, target[class_id] - count[class_id], draw)
        for rows, test in zip(by_class[class_id], tested, strict=True):
            parts[rows] = "test" if test else "train"
    _fill(groups, class_ids, parts)


def _chosen(sizes, missing, draw):
    """Mask of groups, drawn at random, whose sizes add up to about ``missing`` photographs.

    In a random order a group is taken if that brings the sum nearer, so that it is off by at most half of
    the largest group. Of `DRAWS` orders the best is used.
    """
    best, error = None, np.inf
    for _ in range(DRAWS):
        taken, left = np.zeros(len(sizes), dtype=bool), missing
        for one in draw.permutation(len(sizes)):
            if abs(left - sizes[one]) < abs(left):
                taken[one] = True
                left -= sizes[one]
        if abs(left) < error:
            best, error = taken, abs(left)
    return best


def _fill(groups, class_ids, parts):
    """Give each class an image in both parts where its groups allow it: its smallest group moves."""
    own = {}
    for rows in groups:
        if len(set(class_ids[rows])) == 1:
            own.setdefault(class_ids[rows[0]], []).append(rows)
    used = np.flatnonzero(np.isin(parts, PARTS))
    for class_id, rows_of_class in rows_by_class(class_ids[used]):
        candidates = own.get(class_id, ())
        present = set(parts[used[rows_of_class]])
        if len(present) == 1 and len(candidates) > 1:
            smallest = min(candidates, key=len)
            parts[smallest] = next(part for part in PARTS if part not in present)


def classes_in_one_group(manifest, split, changes):
    """Classes that lack a part because all their photographs are one group: {class name: sentence}."""
    names = manifest["class_name"].to_numpy()
    used = split["part"].isin(PARTS).to_numpy()
    groups = changes[changes["group"] >= 0].groupby("class_name")["group"]
    of_groups = groups.agg(["nunique", "size"])
    total = pd.Series(names[used]).value_counts(sort=False)
    found = {}
    for name, (count, size) in of_groups.iterrows():
        if count == 1 and size == total[name]:
            found[name] = (
                f"class {name!r}: all of its {size} photographs are one group, which cannot stand in both "
                "parts; give it photographs of another group, or change protocol.group_by or "
                "protocol.duplicates"
            )
    return found


def shares(manifest, split):
    """Share of test images of each class, as a Series by class name, of the photographs that are used."""
    used = split["part"].isin(PARTS).to_numpy()
    tested = (split["part"] == "test").to_numpy()[used]
    return pd.Series(tested).groupby(manifest["class_name"].to_numpy()[used], sort=False).mean()
