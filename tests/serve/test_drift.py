"""Drift: the log of answers, and the signs that the newest ones differ from those before."""

import sqlite3

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom
from tiny_service import photographs_of

from dmlstudy.use.service.answer_log import AnswerLog
from dmlstudy.use.service.drift import find_drift

NAMES = {0: "robin", 1: "wren", 2: "tit"}


def answers(similarities, class_ids, doubts=None):
    return pd.DataFrame(
        {
            "time": np.arange(len(similarities), dtype=float),
            "class_id": class_ids,
            "similarity": similarities,
            "doubt_id": doubts or [None] * len(similarities),
        }
    )


def steady(count, seed):
    """(similarities, classes) of answers that do not change."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 0.9, count), rng.integers(0, 3, count)


def signs(table, threshold=0.6):
    return {one["sign"]: one for one in find_drift(table, threshold, NAMES)["signs"]}


def test_steady_answers_show_nothing():
    """Would catch a sign that warns of answers that do not change."""
    warned = 0
    for seed in range(20):
        warned += sum(one["warns"] for one in signs(answers(*steady(800, seed))).values())
    # Of 60 signs at the level of 1 %, fewer than 5 in all but one of three thousand tries.
    assert warned < 5


def test_too_few_answers_are_not_judged():
    """Would catch a warning from a handful of answers, and a wrong number of those that are missing."""
    found = find_drift(answers(*steady(70, 0)), 0.6, NAMES)
    assert (found["answers"], found["newest"], found["needed"], found["signs"]) == (70, 0, 30, [])
    empty = find_drift(answers([], []), 0.6, NAMES)
    assert (empty["answers"], empty["needed"], empty["curve"]) == (0, 100, [])
    assert find_drift(answers([0.7], [0]), 0.6, NAMES)["needed"] == 99
    assert find_drift(answers(*steady(100, 0)), 0.6, NAMES)["newest"] == 50


def test_falling_similarities():
    """Would catch a fall that is missed, a rise that is taken for one, and figures of the wrong answers."""
    values, classes = steady(3000, 1)
    values[-200:] -= 0.06
    kept = [None] * 2999 + ["photo"]
    values[-1] = 0.3
    found = signs(answers(values, classes, kept), threshold=0.0)
    sign = found["similarities"]
    assert sign["warns"]
    assert sign["newest"] == pytest.approx(np.median(values[-200:]))
    assert sign["before"] == pytest.approx(np.median(values[-2200:-200]))
    assert f"{sign['newest']:.4f}" in sign["sentence"]
    assert sign["doubts"] == ["photo"]
    # The share of permutations whose mean rank is as small.
    newest, before = values[-30:], values[-90:-30]
    few = signs(answers(np.concatenate([before, newest, newest]), [0] * 120), 0.0)["similarities"]
    newest, before = np.concatenate([newest, newest]), before
    together = np.concatenate([newest, before])
    rng = np.random.default_rng(0)

    def below(some):
        return ((some[:, None] > together) + 0.5 * (some[:, None] == together)).sum()

    drawn = [below(rng.permutation(together)[:60]) for _ in range(4000)]
    assert few["p_value"] == pytest.approx(np.mean(np.array(drawn) <= below(newest)), abs=0.02)
    values[-200:] += 0.3
    assert not signs(answers(values, classes), threshold=0.0)["similarities"]["warns"]


def test_more_unknown_answers():
    """Would catch shares by the thresholds of then, and a p-value that is not Fisher's."""
    values = np.full(1000, 0.8)
    values[:40] = 0.1
    values[-200:-180] = 0.1
    sign = signs(answers(values, [0] * 1000))["unknown"]
    assert sign["newest"] == pytest.approx(20 / 200)
    assert sign["before"] == pytest.approx(40 / 800)
    assert sign["p_value"] == pytest.approx(hypergeom.sf(19, 1000, 60, 200))
    assert "10 % of the newest 200 answers are unknown; of 800 before, 5 %" in sign["sentence"]
    # With another threshold, older answers are judged by it as well.
    assert signs(answers(values, [0] * 1000), threshold=0.05)["unknown"]["newest"] == 0


def test_a_class_that_takes_others():
    """Would catch a class that is missed, one that is named wrongly, and p-values without Holm's adjustment."""
    values, classes = np.full(1000, 0.8), np.tile([0, 1, 2, 1], 250)
    classes[-200:-170] = 2
    # Removed by now.
    classes[:8] = 9
    sign = signs(answers(values, classes))["class"]
    old, new = classes[8:800], classes[-200:]
    assert sign["sentence"].startswith("tit: ")
    assert sign["newest"] == pytest.approx((new == 2).mean())
    assert sign["before"] == pytest.approx((old == 2).mean())
    taken = (new == 2).sum()
    p = hypergeom.sf(taken - 1, 992, taken + (old == 2).sum(), 200)
    assert sign["p_value"] == pytest.approx(3 * p)
    assert sign["warns"]


def test_curve_covers_all_answers():
    """Would catch answers that no point has, and points of a few."""
    values, classes = steady(517, 2)
    curve = find_drift(answers(values, classes), 0.6, NAMES)["curve"]
    assert sum(one["answers"] for one in curve) == 517
    assert min(one["answers"] for one in curve) >= 20
    unknown = sum(one["answers"] * one["unknown"] for one in curve)
    assert unknown == pytest.approx((values < 0.6).sum())
    assert curve[-1]["time"] == 516


def test_log_keeps_the_newest(tmp_path):
    """Would catch a log that grows without end, or is lost with the process."""
    log = AnswerLog(tmp_path / "answers.sqlite", 5)
    for number in range(8):
        log.add([{"nearest": [{"class_id": number}], "similarity": 0.5}])
    log.close()
    again = AnswerLog(tmp_path / "answers.sqlite", 5)
    assert again.rows()["class_id"].tolist() == [3, 4, 5, 6, 7]
    # Another process writes as well.
    other = AnswerLog(tmp_path / "answers.sqlite", 5)
    other.add([{"nearest": [{"class_id": 8}], "similarity": 0.5, "doubt_id": "one"}])
    assert again.rows()["class_id"].tolist() == [4, 5, 6, 7, 8]
    assert again.rows()["doubt_id"].dropna().to_dict() == {4: "one"}
    again.close()
    other.close()


def test_a_log_that_cannot_be_written_says_so_until_it_can(tmp_path):
    """Would catch a full disk that is forgotten as soon as somebody looks."""
    log = AnswerLog(tmp_path / "answers.sqlite", 5)
    answer = {"nearest": [{"class_id": 1}], "similarity": 0.5}
    log.add([answer])
    write = log._write

    def full(rows):
        raise sqlite3.OperationalError("database or disk is full")

    log._write = full
    log.add([answer])
    assert len(log.rows()) == 1
    assert log.problem == "answers.sqlite: database or disk is full"
    log._write = write
    log.add([answer])
    assert log.problem is None
    log.close()


def test_answers_are_logged(serve, run):
    """Would catch answers that are not logged, photographs of the index among them, and a log that stops the
    service."""
    service = serve()
    service.name(photographs_of(run, 4))
    assert service.get("/api/drift").json()["answers"] == 6
    logged = service.desk.log.rows()
    known = {one["doubt_id"] for one in service.get("/api/doubts").json()["doubts"]}
    assert set(logged["doubt_id"]) == known
    # Once they are enrolled, they say nothing more.
    assert service.enrol("new", photographs_of(run, 4)).status_code == 201
    service.name(photographs_of(run, 4))
    assert service.get("/api/drift").json()["answers"] == 6
    service.stop()
    again = serve()
    assert again.get("/api/drift").json()["answers"] == 6
    again.stop()
    off = serve(logged=0)
    off.name(photographs_of(run, 5))
    drift = off.get("/api/drift").json()
    assert (drift["answers"], drift["problem"]) == (0, "--logged is 0")
    off.stop()
    (run / "index_enrolled_files" / "answers.sqlite").write_bytes(b"no database" * 100)
    broken = serve()
    assert broken.name(photographs_of(run, 5)[:1])[0]["problem"] is None
    assert "answers.sqlite: file is not a database" in broken.get("/api/drift").json()["problem"]


def test_drift_names_photographs_that_wait(serve, run):
    """Would catch a photograph that is shown although it was settled and is gone."""
    service = serve()
    photo = photographs_of(run, 4)[0]
    # Answers of the past, all alike, then unknown ones.
    service.desk.log.add([{"nearest": [{"class_id": 0}], "similarity": 0.9999}] * 200)
    answer = service.name([photo])[0]
    doubt = answer["doubt_id"]
    service.desk.log.add([answer] * 99)
    unknown = {one["sign"]: one for one in service.get("/api/drift").json()["signs"]}["unknown"]
    assert unknown["warns"]
    assert unknown["doubts"] == [doubt]
    service.client.delete(f"/api/doubts/{doubt}")
    signs = service.get("/api/drift").json()["signs"]
    assert [one["doubts"] for one in signs if one["sign"] == "unknown"] == [[]]
