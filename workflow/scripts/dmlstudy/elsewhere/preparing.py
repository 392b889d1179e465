"""Makes the job for another machine from a study's configuration, and the parts to take along."""

from pathlib import Path

from dmlstudy.core.files import StudyError, read_json, write_json
from dmlstudy.core.source_code import code_digest
from dmlstudy.data.dataset import read_manifest
from dmlstudy.elsewhere import job as jobs
from dmlstudy.elsewhere import parts
from dmlstudy.plan import recipes
from dmlstudy.plan.layout import Layout

# The order in which experiments matter. Others follow, in the order of the study.
IMPORTANT = (
    "EPSHN_cosine_resnet18_sgd_aug",
    "ArcFace_cosine_resnet18_sgd_aug",
    "ProxyNCA_cosine_resnet18_sgd_aug",
    "crossentropy_resnet18_sgd_aug",
    "SubCenterArcFace_cosine_resnet18_sgd_aug",
    "EPSHN_cosine_resnet18x512_sgd_aug",
    "EPSHN_cosine_resnet18+1dBN_sgd_aug",
)


def in_order_of_importance(study):
    """Names of the study's experiments: the baseline, untrained rows, `IMPORTANT` ones, the others.

    Untrained rows take seconds, and without them nothing can be said of what training is good for.
    """
    baseline = study.config["baseline"]
    wanted = [baseline, *study.untrained, *IMPORTANT, *study.experiments]
    return [name for name in dict.fromkeys(wanted) if name in study.experiments]


def layout_of(study):
    return Layout(study.config["results_dir"], study, by_digest=str)


def inputs_here(study):
    """Files that ordinary rules make before a job can be prepared: tables, and weights of files.

    Weights that the study trains itself are not among them: that takes as long as a training.
    """
    files = layout_of(study)
    tables = files.tables(study.name, *study.class_sets)
    found = [files.data(study.name, "manifest.csv"), tables["split"], *tables["class_set"]]
    for (initializer, backbone), _ in study.starts().items():
        if study.initializers[initializer]["kind"] in ("published", "file"):
            own = files.weights(initializer, backbone, next(iter(study.class_sets)), 0)
            found += own.values()
    return list(dict.fromkeys(found))


def runs_of(study, device):
    """(runs, {experiment: why it is left out}): both class sets of each experiment before the next.

    A run: experiment, seed, class set, complete recipe, training and test pack, code digest, and the
    path of its weights here. Left out are experiments that need what has not been made here: weights
    that the study pretrains, values that it selects.
    """
    files, runs, left_out = layout_of(study), [], {}
    for name in in_order_of_importance(study):
        entry, own = study.experiments[name], []
        if not entry["backbone_trains"]:
            left_out[name] = "its backbone does not train, so it takes seconds here"
            continue
        for seed in study.seeds:
            for class_set in study.class_sets:
                inputs = files.run_inputs(name, class_set, seed)
                needed = {key: inputs[key] for key in ("chosen", "weights") if key in inputs}
                absent = [path for path in needed.values() if not Path(path).is_file()]
                if absent:
                    left_out[name] = (
                        f"{absent[0]} is not there; make it first: snakemake … {absent[0]}"
                    )
                    continue
                recipe = study.known(name, study.run_recipe(name, seed))
                if "chosen" in needed:
                    recipe |= read_json(needed["chosen"])["recipe"]
                train, test = study.resizes(entry)
                own.append(
                    {
                        "experiment": name,
                        "seed": seed,
                        "class_set": class_set,
                        "recipe": {**recipe, "device": device},
                        "train": train,
                        "test": test,
                        "code": code_digest("train.py", *recipes.pieces(entry)),
                        "weights": needed.get("weights"),
                    }
                )
        if name not in left_out:
            runs += own
    return runs, left_out


def check_unchanged(study, job):
    """Raise StudyError if the study now has other recipes, or other code, than when it was prepared."""
    device = job["runs"][0]["recipe"]["device"]
    now = {jobs.place(run): run for run in runs_of(study, device)[0]}
    for run in job["runs"]:
        name = jobs.place(run)
        for key in ("recipe", "code", "train", "test"):
            if name not in now or now[name][key] != run[key]:
                what = "the code" if key == "code" else "the configuration"
                raise StudyError(
                    f"{name}: {what} has changed since the trainings were prepared, so these results are "
                    "those of another recipe; go back to that version, or prepare and train again"
                )


def prepare(study, out, *, device, part_bytes, wheels=(), checkpoint_every=None):
    """Write job and parts to ``out``; returns (job, index, {experiment: why it is left out}).

    ``device``: of all trainings there: auto, cpu or cuda. ``wheels``: paths of Python packages to take
    along. The files of `inputs_here` must exist. Raises StudyError if no run is left.
    """
    out, files = Path(out), layout_of(study)
    runs, left_out = runs_of(study, device)
    if not runs:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise StudyError(f"nothing can be trained elsewhere ({reasons})")
    tables = files.tables(study.name, *study.class_sets)
    carried = {"manifest.csv": tables["manifest"], "split.csv": tables["split"]}
    for name, path in zip(study.class_sets, tables["class_set"], strict=True):
        carried[f"class_sets/{name}.csv"] = path
    for run in runs:
        if run["weights"]:
            path = Path(run["weights"])
            inside = f"weights/{path.relative_to(f'{files.results}/initializers').as_posix()}"
            carried[inside] = path
            carried[f"{inside}.sha256"] = f"{path}.sha256"
            run["weights"] = inside
    carried |= {f"wheels/{Path(wheel).name}": wheel for wheel in wheels}
    images = Path(files.image_folder(study.name))
    for path in read_manifest(tables["manifest"])["path"]:
        carried[f"images/{path}"] = images / path
    config = study.config
    job = {
        "programs": jobs.program_files(),
        "dataset": study.name,
        "results_dir": str(Path(config["results_dir"])),
        "packs": sorted({run[part] for run in runs for part in ("train", "test")}),
        "max_pixels": study.datasets[study.name]["max_pixels"],
        "checkpoint_every": checkpoint_every or config["checkpoint_every"],
        "runs": runs,
        "untrained": {name: study.experiments[name]["backbone"] for name in study.untrained},
        "class_sets": list(study.class_sets),
        "seeds": study.seeds,
    }
    job["id"] = jobs.identity(job)
    write_json(out / jobs.NAME, job)
    index = parts.write_parts(
        out / jobs.CARRIED,
        jobs.CARRIED,
        {jobs.NAME: out / jobs.NAME, **carried},
        part_bytes,
        apart=True,
        about={"job": job["id"]},
    )
    return job, index, left_out
