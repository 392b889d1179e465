"""What results belong to: a data set and its split; and what a tracked run was."""

import hashlib
import os
from pathlib import Path

from dmlstudy.core import registry
from dmlstudy.core.addresses import addresses, local_path, without_secrets
from dmlstudy.core.canonical import canonical, canonical_json
from dmlstudy.core.files import StudyError, read_json
from dmlstudy.plan.checks import needs_checksum
from dmlstudy.plan.fingerprint import fingerprint
from dmlstudy.plan.recipes import RecipeError

SPLIT = ("split", "test_share", "split_seed")
# Further keys of the protocol that change the split, and their values in the published one. They stand in
# a claim only where they differ from these.
PUBLISHED_SPLIT = {"duplicates": "keep", "near_duplicates": None, "group_by": None}


def local_source(dataset):
    """The local file or folder of a data set's entry, or None for addresses and drawn ones."""
    return local_path(dataset["source"])


def local_files(dataset):
    """{name: path} of those of a data set's ``files`` that are local."""
    places = {name: local_source(file) for name, file in (dataset["files"] or {}).items()}
    return {name: path for name, path in places.items() if path is not None}


def origin(study, name):
    """What identifies a data set's content, wherever it is fetched from: text, or None if drawn.

    It is the checksum of the archive if the configuration gives one, since a mirror or a local copy
    holds the same; else the first address, or the path. Of several files it is all of these.
    """
    dataset = study.datasets[name]
    if dataset["files"]:
        return ", ".join(
            f"{file} {file_origin(entry)}" for file, entry in sorted(dataset["files"].items())
        )
    return file_origin(dataset)


def file_origin(entry):
    """What identifies the content of one source; ``entry``: a data set or one of its files."""
    folder = local_source(entry)
    for checksum in ("md5", "sha256"):
        if entry[checksum] and not (folder and folder.is_dir()) and entry["source"]:
            return f"{checksum}:{entry[checksum]}"
    web = addresses(entry["source"])
    if web or folder is None:
        return without_secrets(web[0]) if web else entry["source"]
    return _spelled(folder)


def files_fingerprint(entry, folder):
    """SHA-256 over the files of a data set of which some are local; empty if none is.

    ``entry``: the data set's, with ``files``; ``folder``: where digests are remembered, see
    `fingerprint`. A file that is downloaded counts by its checksum or address. Raises StudyError as
    `fingerprint` does.
    """
    local = local_files(entry)
    if not local:
        return ""
    found = {
        name: (
            fingerprint(local[name], Path(folder) / f".{name}.fingerprint.json")
            if name in local
            else file_origin(file)
        )
        for name, file in entry["files"].items()
    }
    return hashlib.sha256(canonical_json(found).encode()).hexdigest()


def _spelled(path):
    """One spelling of a local path: without links, relative if it is in the working directory."""
    real, here = os.path.realpath(path), os.path.realpath(os.curdir)
    return os.path.relpath(real, here) if (real + os.sep).startswith(here + os.sep) else real


def identity(study, content=""):
    """What a results folder belongs to: one data set and one split of it.

    ``content``: fingerprint of a local data set, see `fingerprint.data_fingerprint`.
    """
    dataset, protocol = study.config["dataset"], study.config["protocol"]
    return canonical(
        {
            **({"content": content} if content else {}),
            "dataset": study.name,
            "source": origin(study, study.name),
            **{key: dataset[key] for key in ("format", "csv", "drawn")},
            **{key: protocol[key] for key in SPLIT},
            **grouped_split(study),
        }
    )


def grouped_split(study):
    """The values of `PUBLISHED_SPLIT` for a study; empty if its split is the published one."""
    protocol = study.config["protocol"]
    found = {key: protocol[key] for key in PUBLISHED_SPLIT}
    if found["duplicates"] == "keep":
        # The hashes are then only shown.
        found["duplicates"] = found["near_duplicates"] = None
    if found["group_by"]:
        found["group_by"] = {key: one for key, one in found["group_by"].items() if one is not None}
    return {key: value for key, value in found.items() if value is not None}


def results(study):
    """What a results folder is, in the configuration's words."""
    return {"results_dir": study.config["results_dir"], **identity(study)}


def refuse_foreign_results(study, claim, content=None):
    """Raise StudyError if the file ``claim`` says that a results folder belongs to another study.

    Numbers of two data sets or splits must not meet in one table. A local data set is the same if it is
    in the same place, however that is spelled (changed photographs there run everything again), or if
    its content is the same, wherever it is. ``content``: fingerprint of a local data set; None if it is
    not known yet, when only the other keys are compared.
    """
    found = read_json(claim) if claim.exists() else {}
    local = local_source(study.datasets[study.name])
    files = local_files(study.datasets[study.name])
    expected = {**PUBLISHED_SPLIT, **identity(study)}
    for key, value in expected.items():
        if not found or found.get(key, PUBLISHED_SPLIT.get(key)) == value:
            continue
        if key == "source" and local is not None:
            before = local_path(found.get(key))
            same_place = before is not None and _spelled(before) == _spelled(local)
            if same_place or content is None or content == found.get("content"):
                continue
        if key == "source" and files and content in (None, found.get("content")):
            continue
        raise StudyError(
            f"{claim}: these results were made with {key}: {found.get(key)}, the "
            f"configuration says {value}. A results folder belongs to one data set and "
            "split: set another results_dir, or remove the folder."
        )


def check_local_files(study):
    """Raise RecipeError for a local file or folder of the configuration that does not exist."""
    for name, dataset in study.datasets.items():
        keys = ("dataset",) if name == study.name else ("other_datasets", name)
        path = local_source(dataset)
        if path is not None and not path.exists():
            raise RecipeError(f"{path}: no such file or folder", *keys, "source")
        for file, path in local_files(dataset).items():
            if not path.is_file():
                raise RecipeError(f"{path}: no such file", *keys, "files", file, "source")
    for name, entry in study.initializers.items():
        for backbone, file in entry["weights"].items():
            path = local_path(file["source"])
            keys = ("initializers", name, "weights", backbone)
            if path is not None and not path.exists():
                raise RecipeError(f"{path}: no such file", *keys)
            on_hub = entry["kind"] == "published" and registry.on_hub(backbone)
            if path is not None and path.is_dir() and not on_hub:
                raise RecipeError(f"{path}: is a folder; name the file of weights in it", *keys)


def weights_fingerprint(study, initializer, backbone, store):
    """Digest of a local file of weights that nothing else identifies; empty for other sources.

    ``store``: JSON file that remembers it, see `fingerprint.fingerprint`.
    """
    entry = study.initializers[initializer]
    file = entry["weights"].get(backbone)
    path = local_path(file["source"]) if file else None
    if path is None or file["sha256"] or not needs_checksum(entry["kind"], backbone):
        return ""
    return fingerprint(path, store)


def local_paths(study):
    """The local files and folders that the configuration names."""
    paths = [local_source(dataset) for dataset in study.datasets.values()]
    for dataset in study.datasets.values():
        paths += local_files(dataset).values()
    for entry in study.initializers.values():
        paths += [local_path(file["source"]) for file in entry["weights"].values()]
    return [path for path in paths if path is not None]


def weights_identity(entry, backbone, content):
    """What tells weights of a `published` or `file` initializer apart; empty if their kind does.

    ``content``: digest of a local file, see `weights_fingerprint`. A checksum identifies a file, wherever
    it lies or comes from.
    """
    file = entry["weights"].get(backbone) or {}
    known = {key: file[key] for key in ("sha256", "revision") if file.get(key)}
    return known or ({"content": content} if content else {})


def tracked(study, name, seed, class_set, content):
    """Everything that an experiment, seed and draw of unseen classes was, for the tracker.

    It holds whatever changes a result on purpose: two runs differ in it, or they are the same run.
    ``content(initializer, backbone)``: digest of a local file of weights, see `weights_fingerprint`.
    """
    entry = study.experiments[name]
    return canonical(
        {
            "results": results(study),
            "experiment": name,
            "seed": seed,
            "class_set": {"name": class_set, **study.class_sets[class_set]},
            "recipe": study.known(name, study.run_recipe(name, seed)),
            "resizes": study.resizes(entry),
            "start": _start(study, entry["initializer"], entry["backbone"], seed, content),
        }
    )


def _start(study, initializer, backbone, seed, content):
    """Where weights come from, and where those come from."""
    entry = study.initializers[initializer]
    if entry["kind"] != "trained":
        file = weights_identity(entry, backbone, content(initializer, backbone))
        return {"initializer": initializer, "kind": entry["kind"], **file}
    seed = seed if entry["seed"] is None else entry["seed"]
    before = study.initializer_entry(initializer, backbone)["initializer"]
    return {
        "initializer": initializer,
        "kind": entry["kind"],
        "dataset": entry["dataset"],
        "recipe": study.initializer_recipe(initializer, backbone, seed).as_dict(),
        "start": _start(study, before, backbone, seed, content),
    }
