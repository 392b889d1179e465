"""What `make estimate` multiplies: every training of a study, with as many images as it will see."""

from pathlib import Path

import estimate as estimate_program
import pytest
from snakemake.utils import update_config

from dmlstudy.plan import configuration, projection
from dmlstudy.plan.job_list import works
from dmlstudy.plan.planning import plan
from dmlstudy.plan.sources import read_yaml
from dmlstudy.plan.time_left import nominal, usable
from dmlstudy.plan.training_progress import read_json

PROJECT = Path(__file__).resolve().parents[2]


def study_of(*files, **changes):
    config = {}
    for name in ("config/config.yaml", "config/experiments.yaml", *files):
        update_config(config, read_yaml(PROJECT / name))
    update_config(config, changes)
    configuration.validate(config, [])
    return plan(config)


CUB = {"cub200_2011": 11_788}


def test_published_study_is_counted_whole():
    """Would catch an initializer, a class set or an epoch that nobody counts."""
    jobs = projection.runs(study_of(), CUB)
    kinds = [job.kind for job in jobs]
    # The classifier and SimCLR, for both class sets; 16 experiments and two untrained rows, twice.
    assert kinds == ["initializer"] * 4 + ["run"] * 36
    by_name = {(job.name, job.class_set): job for job in jobs}
    train, test = round(0.8 * 11_788), round(0.2 * 11_788)
    seen_train, seen_test = round(0.9 * 0.8 * 11_788), round(0.9 * 0.2 * 11_788)
    run = by_name["EPSHN_cosine_resnet18_sgd_aug", "all_classes"]
    assert run.trained == 100 * train
    # After 99 epochs the classes that it knows, after the last everything.
    assert run.embedded == 100 * (train + test)
    assert run.compared == 100 * train * test
    limited = by_name["EPSHN_cosine_resnet18_sgd_aug", "limited_classes"]
    assert limited.trained == 100 * seen_train
    assert limited.embedded == 99 * (seen_train + seen_test) + train + test
    assert limited.compared == 100 * seen_train * seen_test
    assert by_name["simclr (resnet18)", "limited_classes"].trained == 200 * seen_train
    untrained = by_name["imagenet_resnet50", "all_classes"]
    assert (untrained.trained, untrained.embedded) == (0, train + test)


def test_seeds_draws_evaluations_and_candidates_are_counted():
    """Would catch a study that takes twice as long as was said."""
    jobs = projection.runs(study_of(protocol={"seeds": [1, 2], "eval_every": 10}), CUB)
    assert len(jobs) == 2 * 40
    run = next(job for job in jobs if job.kind == "run")
    assert run.embedded == 9 * (9430 + 2358) + 9430 + 2358
    drawn = projection.runs(study_of(protocol={"unseen_draws": 2}), CUB)
    assert sum(job.kind == "run" for job in drawn) == 18 * 4
    tuned = projection.runs(study_of("config/extended.yaml"), CUB)
    candidates = [job for job in tuned if job.kind == "candidate"]
    assert len(candidates) == 10 * 9
    assert all(0 < job.trained < 100 * 9430 for job in candidates)


def test_features_are_computed_once_for_all_heads():
    """Would catch minutes of a backbone for each head, seed or class set, or heads at its speed."""
    study = study_of(
        protocol={"seeds": [1, 2]},
        experiments={
            "one": {"like": "EPSHN_cosine_resnet18_sgd_aug", "backbone_trains": False},
            "two": {"like": "one", "head": {"embedding_dim": 64}},
            "wide": {"like": "one", "backbone": "resnet50"},
            "after": {"like": "one", "initializer": "classifier"},
        },
        only=["one", "two", "wide", "after"],
    )
    jobs = projection.runs(study, CUB)
    stored = [job for job in jobs if job.kind == "features"]
    assert [job.name.partition("/")[0] for job in stored] == ["imagenet"] * 2 + ["classifier"] * 4
    assert {(job.trained, job.embedded) for job in stored} == {(0, 11_788)}
    steps = {job.name: projection.step_of(job.recipe) for job in jobs}
    assert steps["one"] == steps["two"] == steps["after"]
    assert steps["one"] != steps["wide"]
    assert steps["one"] != steps["imagenet/resnet18_224_shorter224"]


def test_demo_has_its_substitutes_initializer_once():
    """Would catch weights that are lent to all runs and counted for each."""
    study = study_of("config/demo.yaml")
    jobs = projection.runs(study, {"drawn_birds": 1200, "other_drawn_birds": 720})
    names = [(job.name, job.class_set) for job in jobs if job.kind == "initializer"]
    assert names.count(("other_species (resnet18)", "all_classes")) == 1
    assert names.count(("other_species (resnet50)", "all_classes")) == 1
    assert len(names) == len(set(names))


def test_steps_of_one_kind_are_measured_once():
    """Would catch minutes of measuring, or a network that is taken for another."""
    study = study_of()
    jobs = {job.name: projection.step_of(job.recipe) for job in projection.runs(study, CUB)}
    assert len(set(jobs.values())) < 16
    assert jobs["EPSHN_cosine_resnet50_sgd_aug"] != jobs["EPSHN_cosine_resnet18_sgd_aug"]
    assert jobs["simclr (resnet18)"] != jobs["classifier (resnet18)"]


def test_seconds_are_images_by_rates():
    """Would catch rates of training and embedding that have changed places."""
    job = projection.runs(study_of(), CUB)[-5]
    rates = {projection.step_of(job.recipe): (10.0, 40.0, 1e6)}
    evaluation = job.embedded / 40 + job.compared / 1e6
    assert projection.seconds(job, rates) == pytest.approx((job.trained / 10, evaluation))


def test_what_was_estimated_is_kept_for_the_watch(tmp_path, monkeypatch):
    """Would catch an estimate that the watch does not find again, or that forgets the one before."""
    monkeypatch.chdir(tmp_path)
    study = study_of("config/extended.yaml")
    monkeypatch.setattr("dmlstudy.plan.job_list.images_of", lambda study, name: CUB[name])
    jobs, found = projection.runs(study, CUB), works(study)
    assert len(found) == len(jobs)
    steps = list(dict.fromkeys(projection.step_of(job.recipe) for job in jobs))
    rates = {step: (100.0 + place, 200.0, 1e6) for place, step in enumerate(steps)}
    projection.store_rates({steps[0]: (1.0, 1.0, 1.0)}, 9.0)
    projection.store_rates(dict(list(rates.items())[:1]), 3.0)
    projection.store_rates(dict(list(rates.items())[1:]), 4.0)
    estimate = usable(read_json(projection.RATES))
    assert estimate["start"] == 4.0
    # Each training takes as long as the table of the estimate says.
    for job, work in zip(jobs, found.values(), strict=True):
        assert work["trained"] == job.trained
        value, known = nominal(work, estimate)
        assert known
        assert value == pytest.approx(sum(projection.seconds(job, rates)))
    # A damaged file is replaced, and one that cannot be written ends nothing.
    projection.RATES.write_text("[")
    projection.store_rates(rates, 4.0)
    assert len(usable(read_json(projection.RATES))["steps"]) == len(steps)
    projection.RATES.unlink()
    projection.RATES.mkdir()
    projection.store_rates(rates, 4.0)


@pytest.mark.parametrize(("setting", "starts"), [("mine:1", 2), ("off", 1)])
def test_a_start_is_measured_as_a_study_starts_its_jobs(monkeypatch, setting, starts):
    """Would catch an estimate that counts seconds of imports for each job, of which forks have none."""
    run = []
    monkeypatch.setenv("DML_FORK_SERVER", setting)
    monkeypatch.setattr(
        estimate_program.subprocess, "run", lambda *command, **how: run.append((command, how))
    )
    estimate_program.starting_seconds()
    assert len(run) == starts
    ((command,), how) = run[-1]
    assert [Path(one).name for one in command[-3:-1]] == ["start.py", "train.py"]
    assert how["env"]["DML_FORK_SERVER"] == ("mine:1" if starts == 2 else "")
