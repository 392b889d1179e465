"""The folder of an index: its files, who may replace it, and whether it fits a model.

An index folder has ``gallery.faiss`` (FAISS IndexFlatIP over L2-normalised float32 embeddings),
``gallery.csv`` (the image behind each row: row, image_id, class_id, class_name, path), ``digests.csv``
(image_id and sha256 of each image's file, where it is known), ``index.json`` (metadata: threshold, model,
class names, ways of answering; see `gallery.make_gallery`), ``class_weights.npz`` (those that the loss
learnt, if any) and ``answer_N.npz`` (what the N-th way of answering keeps, if anything). Torch is not
imported here.
"""

import contextlib
import fcntl
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError, file_digest, read_json, temporary_path, write_json
from dmlstudy.data.dataset import read_manifest, write_csv
from dmlstudy.use.answering import names
from dmlstudy.use.gallery import COLUMNS, VERSION, Gallery
from dmlstudy.use.replacing import put_back, replace_folder
from dmlstudy.use.run_folder import AND_CONFIGURATION, check_run, target

# Index folders of a run: those that the workflow makes (whole gallery, seen classes only), and the one
# that classes are enrolled into.
MADE = ("index", "index_seen")
ENROLLED = "index_enrolled"
FILES = re.compile(
    r"gallery\.faiss|gallery\.csv|digests\.csv|index\.json|class_weights\.npz|answer_\d+\.npz"
)
# Hidden files that others leave in any folder: Snakemake keeps the time of an output folder in one.
NOBODYS = re.compile(r"\.snakemake_timestamp|\.nfs.*|\.DS_Store")
METADATA_KEYS = {
    "version",
    "class_names",
    "embedding_dim",
    "images",
    "model_sha256",
    "next_image_id",
    "only_seen_classes",
    "threshold",
}

# How often an index is read that other programs replace meanwhile.
ATTEMPTS = 20


def index_folder(run, name=None):
    """Path of an index folder. A bare name is a folder of the run, anything else is a path.

    Without a name: the index with enrolled classes if the run has one, else the run's own index.
    """
    run = Path(run)
    if name is None:
        name = ENROLLED if (run / ENROLLED).is_dir() else MADE[0]
    return run / name if Path(name).name == name else Path(name)


def check_replaceable(folder):
    """Raise StudyError if a folder exists and holds anything but an index: writing would remove it."""
    folder = Path(folder)
    if folder.is_symlink() or folder.is_file():
        raise StudyError(f"{folder}: must be a folder, not a file or link; choose another path")
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    others = [name for name in there if not FILES.fullmatch(name) and not NOBODYS.fullmatch(name)]
    if others:
        raise StudyError(
            f"{folder}: this folder holds other files ({', '.join(sorted(others)[:3])}), which an index "
            "would replace; choose another folder"
        )


def write_gallery(folder, gallery):
    """Write an index folder; an existing one is replaced. StudyError as `check_replaceable`."""
    check_replaceable(folder)
    # Imported late: torch must be imported before FAISS, see `search.nearest_neighbours`.
    import faiss

    folder = Path(folder)
    temporary = temporary_path(folder)
    temporary.mkdir(parents=True)
    try:
        index = faiss.IndexFlatIP(gallery.embeddings.shape[1])
        index.add(gallery.embeddings)
        faiss.write_index(index, str(temporary / "gallery.faiss"))
        write_csv(temporary / "gallery.csv", gallery.table)
        if gallery.digests:
            digests = pd.DataFrame(gallery.digests.items(), columns=["image_id", "sha256"])
            write_csv(temporary / "digests.csv", digests)
        if gallery.class_weights:
            np.savez(temporary / "class_weights.npz", **gallery.class_weights)
        for name, kept in gallery.kept.items():
            _write_kept(_kept_file(temporary, gallery.metadata, name), kept)
        write_json(temporary / "index.json", gallery.metadata)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _kept_file(folder, metadata, name):
    """The file of what a way of answering keeps."""
    return folder / f"answer_{names(metadata).index(name)}.npz"


def _write_kept(path, kept):
    """Write arrays, or give a file of another index a second name: such files are never changed."""
    if isinstance(kept, dict):
        np.savez(path, **kept)
        return
    try:
        os.link(kept, path)
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(kept, path)


def check_gallery(folder, model):
    """The metadata of an index folder. ``model``: path of the model.pt to use the index with.

    Fast, because embeddings are not read. Raises StudyError if the index or the model is missing, if the
    index was made with another model, or by another version of this project.
    """
    folder, model = Path(folder), Path(model)
    check_run(model.parent, model.name)
    if not (folder / "index.json").is_file():
        raise StudyError(
            f"{folder}: there is no index; make one with: {rebuild_command(folder, model)}"
        )
    try:
        metadata = read_json(folder / "index.json")
    except (ValueError, UnicodeDecodeError) as error:
        raise StudyError(f"{folder / 'index.json'}: not valid JSON: {error}") from None
    again = rebuild_command(folder, model)
    check_version(metadata, folder / "index.json", again)
    check_model(metadata, folder, model, f"Delete this folder, make the run's index with: {again}")
    return metadata


def check_version(metadata, place, again):
    """Raise StudyError unless this version reads the metadata of an index. ``again``: the command that makes it."""
    if (
        not isinstance(metadata, dict)
        or metadata.get("version") != VERSION
        or not metadata.keys() >= METADATA_KEYS
    ):
        raise StudyError(f"{place}: not an index of version {VERSION}; make it again with: {again}")


def check_model(metadata, place, model, remedy):
    """Raise StudyError unless an index was made with a model. ``remedy``: what to do first, for the message."""
    if metadata["model_sha256"] != file_digest(model):
        raise StudyError(
            f"{place}: this index was made with another model than {model}, and embeddings of two "
            f"models cannot be compared. {remedy}, and enrol your classes again"
        )


def rebuild_command(folder, model):
    """The command, for messages, that makes an index folder (or the index that enrolment starts from)."""
    name = folder.name if folder.name in MADE else MADE[0]
    return f"snakemake --cores all {target(model.parent, name)}{AND_CONFIGURATION}"


def read_table(folder):
    """The table of an index folder (`COLUMNS`); StudyError if it cannot be read."""
    path = Path(folder) / "gallery.csv"
    try:
        # Like a manifest, it has a row per image, and a class may be called "NA".
        table = read_manifest(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read: {error}") from None
    if table.columns.tolist() != COLUMNS:
        raise StudyError(f"{path}: must have the columns {', '.join(COLUMNS)}")
    return table


def index_stamp(folder):
    """Tells one content of an index folder from another; None if there is no index."""
    try:
        status = (Path(folder) / "index.json").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def read_gallery(folder, model):
    """Read the `Gallery` of an index folder, as it is at one moment: other programs may replace it meanwhile.

    StudyError as in `check_gallery`, or for inconsistent files.
    """
    folder, model = Path(folder), Path(model)
    for attempt in range(ATTEMPTS):
        with contextlib.ExitStack() as stack:
            if attempt:
                # From now on they wait, where this program may make a file beside the folder.
                with contextlib.suppress(OSError):
                    stack.enter_context(locked(folder))
            stamp, problem = index_stamp(folder), None
            try:
                gallery = _read(folder, model)
            except (StudyError, OSError) as error:
                problem = error
            if index_stamp(folder) != stamp:
                # Some of its files were of the index before, others of the one after.
                continue
        if problem is not None:
            raise problem
        return gallery
    raise StudyError(
        f"{folder}: other programs changed this index {ATTEMPTS} times while it was read; try again"
    )


def _read(folder, model):
    """`read_gallery`, if nobody replaces the folder meanwhile."""
    import faiss

    metadata, table = check_gallery(folder, model), read_table(folder)
    path = folder / "gallery.faiss"
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise StudyError(f"{path}: FAISS cannot read this file: {error}") from None
    shape = (metadata["images"], metadata["embedding_dim"])
    if (index.ntotal, index.d) != shape or len(table) != index.ntotal:
        raise StudyError(
            f"{folder}: the files of this index do not belong together; make it again with: "
            f"{rebuild_command(folder, model)}"
        )
    digests = {}
    # An index of an older version has none.
    if (folder / "digests.csv").is_file():
        stored = pd.read_csv(folder / "digests.csv", dtype={"sha256": str})
        digests = dict(zip(stored["image_id"].tolist(), stored["sha256"], strict=True))
    weights = {}
    if (folder / "class_weights.npz").is_file():
        weights = _read_weights(folder / "class_weights.npz")
    files = {name: _kept_file(folder, metadata, name) for name in names(metadata)}
    kept = {name: path for name, path in files.items() if path.is_file()}
    # FAISS gives torch's tensors where another package has loaded its torch_utils.
    vectors = np.asarray(index.reconstruct_n(0, index.ntotal))
    return Gallery(vectors, table, metadata, digests, weights, kept)


def _read_weights(path):
    try:
        with np.load(path) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StudyError(
            f"{path}: cannot be read ({error}); delete the folder and make the index again"
        ) from None


@contextlib.contextmanager
def exclusive_access(folder):
    """Lock an index folder while it is read, changed and written; other programs wait."""
    with locked(folder):
        put_back(folder)
        yield


@contextlib.contextmanager
def locked(path):
    """Lock a file or folder that need not exist, by a file beside it; other programs of this machine wait."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
