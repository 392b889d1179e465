"""Time left: expected seconds, corrected by what was measured, placed on slots."""

import random
import re
from pathlib import Path

import pytest

from dmlstudy.plan.job_list import KINDS
from dmlstudy.plan.rule_seconds import SECONDS
from dmlstudy.plan.snapshot import duration
from dmlstudy.plan.time_left import (
    Due,
    Expectations,
    Measured,
    nominal,
    of_running,
    of_running_training,
    seconds_left,
    usable,
)


def tick_by_tick(jobs, cores, gpus):
    """The obvious computation: second by second, start what is ready and fits."""
    left = {index: job.seconds for index, job in jobs.items()}
    running, done, clock = {i for i, job in jobs.items() if job.running}, set(), 0
    while len(done) < len(jobs):
        waiting = [i for i in jobs if i not in running and i not in done]
        for i in sorted(waiting, key=lambda i: (-jobs[i].priority, -jobs[i].seconds, i)):
            ready = all(one in done or one not in jobs for one in jobs[i].after)
            used = sum(min(jobs[one].threads, cores) for one in running)
            cards = sum(min(jobs[one].gpu, gpus) for one in running)
            fits = used + min(jobs[i].threads, cores) <= cores
            if ready and fits and cards + min(jobs[i].gpu, gpus) <= gpus:
                running.add(i)
        clock += 1
        for i in list(running):
            left[i] -= 1
            if left[i] <= 0:
                running.discard(i)
                done.add(i)
    return clock


@pytest.mark.parametrize("seed", range(40))
def test_slots_equal_a_count_of_seconds(seed):
    """Would catch slots that are given twice, jobs before their inputs, or a tail that is forgotten."""
    draw = random.Random(seed)
    cores, gpus = draw.randint(1, 4), draw.randint(1, 2)
    jobs = {}
    for index in range(draw.randint(1, 25)):
        after = draw.sample(range(index), min(index, draw.randint(0, 3)))
        # Some of them are done already.
        after += [1000] * draw.randint(0, 1)
        jobs[index] = Due(
            draw.randint(1, 9),
            draw.randint(1, 5),
            draw.randint(0, 2),
            tuple(after),
            priority=draw.choice([0, 0, 10]),
        )
    assert seconds_left(jobs, cores, gpus) == tick_by_tick(jobs, cores, gpus)


def test_running_jobs_hold_their_slots():
    """Would catch waiting jobs that are placed beside running ones on the same slots."""
    jobs = {0: Due(6.0, running=True), 1: Due(10.0), 2: Due(1.0, after=(1,))}
    assert seconds_left(jobs, 1) == 17
    assert seconds_left(jobs, 2) == 11
    # More may run than there are slots now, since another Snakemake started them.
    assert seconds_left({0: Due(6.0, running=True), 1: Due(3.0, running=True)}, 1) == 6
    assert seconds_left({}, 1) == 0


WORK = {"epochs": 10, "trained": 1000, "embedded": 600, "compared": 0, "step": "a", "cost": 2}


def work(step="a", times=1):
    return {**WORK, "step": step, "trained": 1000 * times, "embedded": 600 * times}


def test_nothing_measured_and_nothing_estimated_is_said():
    """Would catch a time that was made up."""
    assert Expectations([]).of("train", work()) is None
    estimate = {"start": 4.0, "steps": {"a": [50.0, 200.0, 1e6]}}
    # 1000 images at 50 a second, 600 at 200 a second, and the start of the job.
    assert Expectations([], estimate).of("train", work()) == pytest.approx(20 + 3 + 4)
    assert Expectations([], estimate).of("train", work("b")) is None


def test_the_estimate_is_corrected_by_the_same_step_first():
    """Would catch a ratio of other steps, or an estimate that stays as it was."""
    estimate = {"start": 4.0, "steps": {"a": [50.0, 200.0, 1e6], "b": [10.0, 200.0, 1e6]}}
    # Estimated 23 s; they took 46 s, besides 5 s for the start.
    measured = [Measured("train", work(), 51.0, 46.0)]
    found = Expectations(measured, estimate)
    assert found.of("train", work(times=2)) == pytest.approx(2 * 46 + 5)
    # Of the other step nothing was measured: 103 s by the estimate, times two as for the first.
    assert found.of("train", work("b")) == pytest.approx(2 * 103 + 5)
    measured.append(Measured("train", work("b"), 108.0, 103.0))
    assert Expectations(measured, estimate).of("train", work("b")) == pytest.approx(103 + 5)
    assert Expectations(measured, estimate).of("train", work()) == pytest.approx(46 + 5)


def test_without_an_estimate_work_is_compared():
    """Would catch units that are taken for seconds, or sizes of backbones that do not count."""
    value, known = nominal(work(), None)
    assert (value, known) == ((3 * 1000 + 600) * 2, False)
    found = Expectations([Measured("train", work(), 30.0, 20.0)])
    assert found.of("train", work("b", times=3)) == pytest.approx(3 * 20 + 10)
    heavy = {**work("b"), "cost": 8}
    assert found.of("pretrain", heavy) == pytest.approx(4 * 20 + 10)
    # A step with an estimate is not measured against one in arbitrary units.
    estimate = {"start": 1.0, "steps": {"b": [100.0, 100.0, 1.0]}}
    mixed = Expectations([Measured("train", work(), 30.0, 20.0)], estimate)
    assert mixed.of("train", work("b")) == pytest.approx(10 + 6 + 10)


def test_a_job_that_does_not_tell_its_parts_is_measured_as_a_whole():
    """Would catch stored features that are expected to take as long as a training."""
    features = {**work("f"), "trained": 0, "embedded": 100}
    found = Expectations(
        [Measured("train", work(), 30.0, 20.0), Measured("features", features, 14.0)]
    )
    # 10 s to start, as the training; 4 s for 100 images.
    assert found.of("features", {**features, "embedded": 300}) == pytest.approx(12 + 10)


def test_other_jobs_take_as_long_as_those_of_their_rule():
    """Would catch a rule that is expected to take as long as another."""
    measured = [Measured("evaluate", None, 3.0), Measured("evaluate", None, 5.0)]
    found = Expectations(measured)
    assert found.of("evaluate") == 4
    # Twice the usual time of the measured rule, so twice that of another.
    usual = Expectations([])
    ratio = 4 / usual.of("evaluate")
    assert found.of("report_page") == pytest.approx(ratio * usual.of("report_page"))


def test_a_running_training_is_known_by_its_curve():
    """Would catch epochs that are counted twice, or a remainder below zero."""
    plain = {**work(), "embedded": 0}
    rows = [(1, 10.0), (2, 10.0), (3, 10.0)]
    assert of_running_training(rows, 10, plain, 4.0, 2.0) == pytest.approx(70 - 4 + 2)
    # An epoch that takes long does not take less than nothing.
    assert of_running_training(rows, 10, plain, 400.0, 2.0) == pytest.approx(60 + 2)
    # 600 images are embedded besides 1000 steps, each three times as much work.
    assert of_running_training(rows, 10, work(), 0.0, 0.0) == pytest.approx(70 * 1.2)
    assert of_running_training([(10, 10.0)], 10, plain, 3.0, 2.0) == 2
    assert of_running(10, 4) == 6
    assert of_running(10, 400) == 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"steps": 3},
        {"steps": {"a": [1, 2]}},
        {"steps": {"a": [0, 1, 1]}},
        {"steps": {"a": "xyz"}},
    ],
)
def test_damaged_estimate_is_none(value):
    """Would catch a division by zero, or a traceback for a file of another version."""
    assert usable(value) is None


def test_words_of_a_time():
    """Would catch minutes that are shown as seconds, and 60 minutes beside an hour."""
    cases = {
        0: "0 s",
        -3: "0 s",
        59.6: "60 s",
        89: "89 s",
        90: "2 min",
        5369: "89 min",
        5400: "1 h 30 min",
    }
    for seconds, words in {**cases, 5340: "89 min", 360_000: "4 days 4 h"}.items():
        assert duration(seconds) == words


def test_usual_times_are_of_rules_that_exist():
    """Would catch a rule that was renamed, whose usual time nobody uses any more."""
    rules = Path(__file__).resolve().parents[2] / "workflow" / "rules"
    texts = "\n".join(path.read_text(encoding="utf-8") for path in rules.glob("*.smk"))
    names = set(re.findall(r"^rule (\w+):", texts, re.MULTILINE))
    assert SECONDS.keys() <= names
    assert KINDS.keys() <= names
    assert not SECONDS.keys() & KINDS.keys()
