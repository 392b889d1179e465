"""The gallery of a run as a search index for photographs; classes can be added without training.

An index folder has ``gallery.faiss`` (FAISS IndexFlatIP over L2-normalised float32 embeddings),
``gallery.csv`` (the image behind each row: row, image_id, class_id, class_name, path), ``digests.csv``
(image_id and sha256 of each image's file, where it is known) and ``index.json`` (metadata:
threshold, model, class names; see `make_gallery`). Torch is not imported here.
"""

import contextlib
import fcntl
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError, file_digest, read_json, temporary_path, write_json
from dmlstudy.data.class_names import composed
from dmlstudy.data.dataset import read_manifest, write_csv
from dmlstudy.evaluate.metrics import distance, majority_vote
from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.evaluate.thresholds import OWN
from dmlstudy.use.index_choices import Choice, Images, choose, probabilities
from dmlstudy.use.replacing import put_back, replace_folder
from dmlstudy.use.run_folder import AND_CONFIGURATION, check_run, target
from dmlstudy.use.same_files import check_digests

VERSION = 1
# Index folders of a run: those that the workflow makes (whole gallery, seen classes only), and the one
# that classes are enrolled into.
MADE = ("index", "index_seen")
ENROLLED = "index_enrolled"
FILES = ("gallery.faiss", "gallery.csv", "digests.csv", "index.json")
COLUMNS = ["row", "image_id", "class_id", "class_name", "path"]
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


@dataclass(frozen=True)
class Gallery:
    """An index in memory.

    ``embeddings``: float32 (images, dim), L2-normalised; ``table``: the image behind each row (`COLUMNS`);
    ``metadata``: the content of index.json; ``digests``: {image id: SHA-256 of its file}, where known.
    """

    embeddings: np.ndarray
    table: pd.DataFrame
    metadata: dict
    digests: dict = field(default_factory=dict)


def index_folder(run, name=None):
    """Path of an index folder. A bare name is a folder of the run, anything else is a path.

    Without a name: the index with enrolled classes if the run has one, else the run's own index.
    """
    run = Path(run)
    if name is None:
        name = ENROLLED if (run / ENROLLED).is_dir() else MADE[0]
    return run / name if Path(name).name == name else Path(name)


def make_gallery(
    embeddings,
    manifest,
    indexed,
    *,
    model_sha256,
    accepted_share,
    way=OWN,
    held_out=None,
    limited=(),
    data="",
    threads=None,
):
    """Make the `Gallery` of a run.

    ``embeddings``: mapping with ``gallery_embeddings`` (m, dim) and ``gallery_image_ids`` (m,);
    ``manifest``: table of the data set's images; ``indexed``: boolean array over class ids, the classes
    to include; ``model_sha256``: digest of the run's model.pt; ``accepted_share``, ``way``: see
    `index_choices.Choice`; ``held_out``: boolean array over class ids, the classes that the model was not
    trained on (none); ``limited``: (embeddings, held_out) of limited models, for a model without held-out
    classes; ``data``: name of the data set, for index.json.
    Raises StudyError for embeddings that are not finite, for fewer than two images, and if there is no image
    to choose a threshold on.
    """
    held_out = np.zeros_like(indexed) if held_out is None else held_out
    image_ids = embeddings["gallery_image_ids"]
    images = manifest.set_index("image_id").loc[image_ids]
    kept = indexed[images["class_id"].to_numpy()]
    vectors = np.ascontiguousarray(embeddings["gallery_embeddings"][kept], dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise StudyError("the gallery has embeddings that are not finite")
    if len(vectors) < 2:
        raise StudyError(f"the gallery has {len(vectors)} image(s); an index needs at least two")
    table = images[kept].reset_index().assign(row=np.arange(len(vectors)))[COLUMNS]
    names = manifest.drop_duplicates("class_id").sort_values("class_id")["class_name"].tolist()
    class_of = manifest.set_index("image_id")["class_id"]

    def images_of(one, held_out):
        class_ids = class_of.loc[one["gallery_image_ids"]].to_numpy()
        return Images(one["gallery_embeddings"], class_ids, held_out[class_ids])

    choice = Choice(accepted_share, way, [images_of(*one) for one in limited])
    threshold, calibration = choose(images_of(embeddings, held_out), kept, choice, threads)
    metadata = {
        "version": VERSION,
        "data": data,
        "metric": "cosine similarity: inner product of L2-normalised embeddings",
        "embedding_dim": vectors.shape[1],
        "images": len(vectors),
        "model_sha256": model_sha256,
        # Indexed by class id: all classes of the data set, then the enrolled ones.
        "class_names": names,
        "only_seen_classes": not bool(indexed.all()),
        # Image id of the next enrolled photograph; smaller ids belong to the data set.
        "next_image_id": len(manifest),
        "threshold": threshold,
        "calibration": calibration,
    }
    digests = {}
    if "sha256" in images:
        digests = dict(zip(table["image_id"].tolist(), images["sha256"][kept], strict=True))
    return Gallery(vectors, table, metadata, digests)


def check_replaceable(folder):
    """Raise StudyError if a folder exists and holds anything but an index: writing would remove it."""
    folder = Path(folder)
    if folder.is_symlink() or folder.is_file():
        raise StudyError(f"{folder}: must be a folder, not a file or link; choose another path")
    # Snakemake keeps the time of an output folder in a hidden file.
    others = [path.name for path in folder.glob("[!.]*") if path.name not in FILES]
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
        write_json(temporary / "index.json", gallery.metadata)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    if (
        not isinstance(metadata, dict)
        or metadata.get("version") != VERSION
        or not metadata.keys() >= METADATA_KEYS
    ):
        raise StudyError(
            f"{folder / 'index.json'}: not an index of version {VERSION}; make it again with: "
            f"{rebuild_command(folder, model)}"
        )
    if metadata["model_sha256"] != file_digest(model):
        raise StudyError(
            f"{folder}: this index was made with another model than {model}, and embeddings of two "
            "models cannot be compared. Delete this folder, make the run's index with: "
            f"{rebuild_command(folder, model)}, and enrol your classes again"
        )
    return metadata


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


def read_gallery(folder, model):
    """Read the `Gallery` of an index folder. StudyError as in `check_gallery`, or for inconsistent files."""
    import faiss

    folder, model = Path(folder), Path(model)
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
    return Gallery(index.reconstruct_n(0, index.ntotal), table, metadata, digests)


@contextlib.contextmanager
def exclusive_access(folder):
    """Lock an index folder while it is read, changed and written; other programs wait."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        put_back(folder)
        yield


def spelled(names, name):
    """A class name as ``names`` spell it: Unicode has several spellings of one text."""
    known = {composed(other): other for other in names}
    return known.get(composed(name), name)


def check_name(table, name, existing):
    """Raise StudyError unless class ``name`` is in a gallery's table exactly if ``existing`` is true."""
    names = set(table["class_name"])
    there = spelled(names, name) in names
    if there and not existing:
        raise StudyError(
            f"{name!r} is already in the index; use --add-to-existing to add photographs to it, "
            "or choose another name"
        )
    if existing and not there:
        raise StudyError(
            f"{name!r} is not in the index; leave out --add-to-existing to enrol it as a new class"
        )


def enrol(gallery, name, embeddings, paths, *, existing=False, digests=None):
    """Return a gallery with the photographs of a class added; nothing is trained.

    ``embeddings``: float32 (n, dim), L2-normalised, from the index's model; ``paths``: the n files;
    ``digests``: their n SHA-256, so that no file is enrolled twice under any name, or None. A class of
    the data set keeps its class id, a new class gets the next one. Image ids continue after
    those of the data set. The threshold does not change: it was chosen before enrolment.
    Raises StudyError for a name that is already in the gallery (with ``existing``: that is not), for
    photographs that are already there, and for embeddings of another dimension.
    """
    check_name(gallery.table, name, existing)
    there = set(gallery.table["path"])
    for path in paths:
        if path in there:
            raise StudyError(f"{path}: this photograph is already in the index, or was given twice")
        there.add(path)
    if digests is not None:
        check_digests(gallery.table, gallery.digests, paths, digests)
    if embeddings.shape != (len(paths), gallery.metadata["embedding_dim"]):
        raise StudyError(
            f"embeddings of shape {embeddings.shape} do not fit an index of "
            f"{gallery.metadata['embedding_dim']} dimensions"
        )
    names = list(gallery.metadata["class_names"])
    name = spelled(names, name)
    if name not in names:
        names.append(name)
    first = gallery.metadata["next_image_id"]
    start = len(gallery.table)
    added = pd.DataFrame(
        {
            "row": range(start, start + len(paths)),
            "image_id": range(first, first + len(paths)),
            "class_id": names.index(name),
            "class_name": name,
            "path": paths,
        }
    )
    metadata = {
        **gallery.metadata,
        "class_names": names,
        "only_seen_classes": gallery.metadata["only_seen_classes"] and existing,
        "images": start + len(paths),
        "next_image_id": first + len(paths),
    }
    return Gallery(
        np.concatenate([gallery.embeddings, embeddings]),
        pd.concat([gallery.table, added], ignore_index=True),
        metadata,
        gallery.digests | {first + index: digest for index, digest in enumerate(digests or [])},
    )


def classify(gallery, embeddings, neighbours, threshold=None, threads=None):
    """Classify photographs by their nearest gallery images: a table with a row per photograph.

    ``embeddings``: float32 (n, dim), L2-normalised; ``neighbours``: number of images that vote;
    ``threshold``: a similarity, by default that of the index. Columns: known (1 if the nearest image
    reaches the threshold, else 0), nearest_image_id, nearest_class_id, nearest_class_name, nearest_path,
    similarity (cosine), distance (Euclidean between unit vectors: √(2 − 2 · similarity)), vote_class_id,
    vote_class_name, votes (of that class), voters (all), probability (that the nearest image has the
    photograph's class, if that is enrolled; empty for an index without a calibration). Ties of similarity go to the smallest image
    id; ties of the vote: see `metrics.majority_vote`.
    """
    table, names = gallery.table, np.array(gallery.metadata["class_names"], dtype=object)
    similarities, rows = nearest_neighbours(
        embeddings,
        gallery.embeddings,
        neighbours,
        ids=table["image_id"].to_numpy(),
        threads=threads,
    )
    if threshold is None:
        threshold = gallery.metadata["threshold"]["similarity"]
    class_ids = table["class_id"].to_numpy()[rows]
    vote, votes = majority_vote(class_ids, neighbours)
    nearest = table.iloc[rows[:, 0]].reset_index(drop=True)
    similarity = similarities[:, 0]
    return pd.DataFrame(
        {
            "known": (similarity >= threshold).astype(int),
            "nearest_image_id": nearest["image_id"],
            "nearest_class_id": nearest["class_id"],
            "nearest_class_name": nearest["class_name"],
            "nearest_path": nearest["path"],
            "similarity": similarity,
            "distance": distance(similarity),
            "vote_class_id": vote,
            "vote_class_name": names[vote],
            "votes": votes,
            "voters": rows.shape[1],
            "probability": probabilities(
                gallery.metadata.get("calibration"),
                embeddings,
                gallery.embeddings,
                table["class_id"].to_numpy(),
            ),
        }
    )
