"""The jobs of a study as plain values: from Snakemake's plan, for programs that follow a study while it runs.

Jobs are known by Snakemake's attributes only.
"""

import json
from pathlib import Path

from dmlstudy.core.files import StudyError, write_json
from dmlstudy.plan import projection
from dmlstudy.plan.failures import title_of
from dmlstudy.plan.image_counts import images_of
from dmlstudy.plan.study import ALL_CLASSES

# Rules whose jobs train a model, or compute features with one, and what a `projection.Job` calls that.
KINDS = {"train": "run", "train_head": "run", "pretrain": "initializer", "try_candidate": "candidate", "try_head": "candidate", "features": "features"}  # fmt: skip


def key_of(kind, name, class_set, seed, candidate=None):
    """What tells one training from another, as text."""
    return json.dumps([kind, name, class_set, seed, candidate])


def works(study):
    """{key: work} of all trainings, see `key_of`.

    A work: {"epochs", "trained", "embedded", "compared", "step", "cost"}: counts as in `projection.Job`;
    ``step``: text that is equal where steps take equally long; ``cost``: of a step's image, in arbitrary
    units, from the size of the backbone's maps. Empty if the number of images is not known yet.
    """
    try:
        images = {name: images_of(study, name) for name in study.datasets}
    except StudyError:
        return {}
    found, tried = {}, {}
    for job in projection.runs(study, images):
        candidate, class_set, seed = None, job.class_set, job.recipe.seed
        if job.kind == "candidate":
            candidate = tried.setdefault(job.name, iter(study.candidates[job.name]))
            candidate, class_set, seed = next(candidate), ALL_CLASSES, None
        elif job.kind == "features":
            class_set = seed = None
        facts = study.facts.get((job.recipe.backbone, job.recipe.image_size)) or {}
        per_pixel = (facts.get("footprint") or {}).get("kept", 1)
        found[key_of(job.kind, job.name, class_set, seed, candidate)] = {
            "epochs": job.recipe.epochs,
            "trained": job.trained,
            "embedded": job.embedded,
            "compared": job.compared,
            "step": projection.step_text(job.recipe),
            "cost": per_pixel * job.recipe.image_size**2 if job.recipe.backbone_trains else 1,
        }
    return found


def _training(rule, wildcards, outputs, backbones):
    """(key, facts) of a training job; facts: what it is called, and its files while it runs."""
    kind, first = KINDS[rule], Path(outputs[0])
    if kind == "features":
        name = wildcards["features"]
        facts = {"name": name, "class_set": "", "seed": "", "state": None}
        facts |= {"curves": [], "cost": None}
        return key_of(kind, name, None, None), facts
    if kind == "candidate":
        name, candidate = wildcards["experiment"], wildcards["candidate"]
        facts = {"name": f"{name}, {candidate}", "class_set": "", "seed": ""}
        key = key_of(kind, name, ALL_CLASSES, None, candidate)
    else:
        class_set, seed = wildcards["class_set"], int(wildcards["seed"])
        if kind == "run":
            name = wildcards["experiment"]
        else:
            backbone = backbones.get(wildcards["backbone"], wildcards["backbone"])
            name = f"{wildcards['initializer']} ({backbone})"
        facts = {"name": name, "class_set": class_set, "seed": str(seed)}
        key = key_of(kind, name, class_set, seed)
    # As `train.job.state_folder` and `train.run_job` have it; torch is not imported here.
    state = first.parent / "state" if kind == "run" else first.with_name(f"{first.stem}_state")
    facts["state"] = str(state)
    # Other trainings keep their curve in their state; their log tells the epoch.
    facts["curves"] = [str(state / "curves.csv"), str(first.parent / "curves.csv")]
    facts["cost"] = next((path for path in outputs if path.endswith("cost.json")), None)
    return key, {**facts, "curves": facts["curves"] if kind == "run" else []}


def jobs_of(dag, study, backbones):
    """All jobs of a built plan of Snakemake that have outputs, as dictionaries.

    Each: "rule", "title", "outputs", "log" (path or ""), "needs" (whether it has to run), "threads", "gpu",
    "priority", "after" (indices of the jobs that it waits for), "training" (None or facts), "work" (None or
    see `works`). ``backbones``: {name in file names: backbone}.
    """
    known = works(study)
    jobs = sorted((job for job in dag.jobs if job.output), key=lambda job: str(job.output[0]))
    places = {job: place for place, job in enumerate(jobs)}
    found = []
    for job in jobs:
        rule, outputs = job.rule.name, list(map(str, job.output))
        key, training = None, None
        if rule in KINDS:
            key, training = _training(rule, job.wildcards_dict, outputs, backbones)
        needs = bool(dag.needrun(job))
        found.append(
            {
                "rule": rule,
                "title": title_of(job),
                "outputs": outputs,
                "log": next(iter(map(str, job.log)), ""),
                "needs": needs,
                # They are functions that read inputs, so only of jobs that have to run.
                "threads": int(job.threads) if needs else 1,
                "gpu": int(job.resources.get("gpu", 0)) if needs else 0,
                "priority": int(job.rule.priority or 0),
                "after": sorted(places[one] for one in dag.dependencies[job] if one in places),
                "training": training,
                "work": known.get(key),
            }
        )
    return found


def write_jobs(path, dag, study, files, backbones):
    """Write what a program that follows a study must know to a JSON file. ``files``: a `Layout`."""
    write_json(
        path,
        {
            "jobs": jobs_of(dag, study, backbones),
            "results": files.results,
            "page": files.watch_page(),
            "estimate": str(projection.RATES),
            "data": study.name,
        },
    )
