"""Configurations with copies and groups: what is refused, and which results belong to which split."""

import json

import pytest
from configurations import describe, refusal, small

from dmlstudy.core.files import StudyError
from dmlstudy.plan import arguments, configuration, identity, wording
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.planning import plan

PUBLISHED_KEYS = {
    *("dataset", "source", "format", "csv", "drawn"),
    *("split", "test_share", "split_seed"),
}


def study(**protocol):
    config = small()
    config["protocol"] = {**config.get("protocol", {}), **protocol}
    configuration.validate(config, [])
    return plan(config, describe)


def test_published_split_is_what_it_was():
    """Would catch a new key in the identity or the split's options, which runs every study again."""
    published = study()
    assert set(identity.identity(published)) == PUBLISHED_KEYS
    assert identity.grouped_split(published) == {}
    assert arguments.splitting(published.config["protocol"]) == [
        *("--method", "stratified", "--seed", "42", "--test-share", "0.2")
    ]
    assert not any("photographs" in note for note in wording.notes(published))
    # Near duplicates are only shown while copies are kept.
    assert identity.identity(study(near_duplicates=3)) == identity.identity(published)


OTHERS = [
    {"duplicates": "together"},
    {"duplicates": "drop"},
    {"duplicates": "drop", "near_duplicates": 5},
    {"duplicates": "drop", "near_duplicates": None},
    {"group_by": {"pattern": "(a)"}},
    {"group_by": {"pattern": "(b)"}},
]


@pytest.mark.parametrize("one", [{}, *OTHERS], ids=str)
def test_another_split_is_another_study(tmp_path, one):
    """Would catch tables that mix splits, in either direction, and a study that is refused its own results."""
    claim = tmp_path / "study.json"
    claim.write_text(json.dumps(identity.identity(study(**one))))
    for other in ({}, *OTHERS):
        if other == one:
            identity.refuse_foreign_results(study(**other), claim)
        else:
            with pytest.raises(
                StudyError, match=r"made with (duplicates|near_duplicates|group_by)"
            ):
                identity.refuse_foreign_results(study(**other), claim)


@pytest.mark.parametrize(
    ("group_by", "words"),
    [
        ({}, "protocol.group_by: needs either column or pattern"),
        ({"column": "bird", "pattern": "(a)"}, "protocol.group_by: needs either column or pattern"),
        ({"column": "bird"}, "protocol.group_by.column: needs a data set with a table"),
        ({"pattern": "(a"}, "is no regular expression"),
        ({"pattern": "a"}, "needs a group in parentheses"),
        ({"patern": "(a)"}, "unknown key"),
    ],
)
def test_mistakes_are_refused(group_by, words):
    """Would catch a mistake that is only found when the split is drawn, or never."""
    config = small()
    config.setdefault("protocol", {})["group_by"] = group_by
    assert words in refusal(config)


def test_options_and_files_of_a_grouped_split(tmp_path):
    """Would catch a split that does not follow the copies, or the column of a user's table."""
    (tmp_path / "list.csv").write_text("path,label,bird\na.jpg,x,r1\n")
    config = small()
    config["dataset"] = {
        "name": "mine",
        "format": "csv",
        "source": str(tmp_path),
        "csv": "list.csv",
    }
    config["protocol"] |= {"duplicates": "drop", "group_by": {"column": "bird"}}
    configuration.validate(config, [])
    assert arguments.grouping(config) == [
        *("--csv", "list.csv", "--duplicates", "drop", "--group-column", "bird")
    ]
    files = Layout("r", plan(config, describe), by_digest=str)
    assert files.group_files("mine") == {
        "copies": "r/data/mine/copies.csv",
        "table": str(tmp_path / "list.csv"),
    }
    (tmp_path / "list.csv").unlink()
    assert files.group_files("mine") == {"copies": "r/data/mine/copies.csv"}


def test_pages_say_what_the_split_does():
    """Would catch a page of a study without copies that does not say so."""
    assert "Of each set of copies" in " ".join(wording.notes(study(duplicates="drop")))
    grouped = study(duplicates="together", group_by={"pattern": "(a)"})
    assert " ".join(wording.notes(grouped)) == (
        "Copies of photographs stand in one part of the split. Groups of photographs that belong together "
        "stand in one part of the split."
    )
