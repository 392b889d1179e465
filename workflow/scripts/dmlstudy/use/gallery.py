"""The gallery of a run as a search index for photographs; classes can be added and removed without training.

`index_files` has the files of an index, `answering` the ways of answering. Torch is not imported here.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import did_you_mean
from dmlstudy.data.class_names import composed
from dmlstudy.evaluate.answer_tables import NEAREST
from dmlstudy.evaluate.metrics import distance, majority_vote
from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.evaluate.thresholds import OWN
from dmlstudy.use.answering import answered, renewed
from dmlstudy.use.index_choices import Choice, Images, choose, probabilities
from dmlstudy.use.same_files import check_digests

VERSION = 1
COLUMNS = ["row", "image_id", "class_id", "class_name", "path"]


@dataclass(frozen=True)
class Gallery:
    """An index in memory.

    ``embeddings``: float32 (images, dim), L2-normalised; ``table``: the image behind each row (`COLUMNS`);
    ``metadata``: the content of index.json; ``digests``: {image id: SHA-256 of its file}, where known;
    ``class_weights``: ``class_ids`` (c,) and ``weights`` float32 (c, dim) that the loss learnt, empty if it
    learnt none; ``kept``: {way of answering: arrays that it keeps, or the file that holds them}.
    """

    embeddings: np.ndarray
    table: pd.DataFrame
    metadata: dict
    digests: dict = field(default_factory=dict)
    class_weights: dict = field(default_factory=dict)
    kept: dict = field(default_factory=dict)


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
        # Indexed by class id: all classes of the data set, then the enrolled ones. null: a removed one.
        "class_names": names,
        "dataset_classes": len(names),
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


def spelled(names, name):
    """A class name as ``names`` spell it: Unicode has several spellings of one text."""
    known = {composed(other): other for other in names if other is not None}
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
    return replace(
        gallery,
        embeddings=np.concatenate([gallery.embeddings, embeddings]),
        table=pd.concat([gallery.table, added], ignore_index=True),
        metadata=metadata,
        digests=gallery.digests
        | {first + index: digest for index, digest in enumerate(digests or [])},
    )


def check_removable(table, metadata, name):
    """The name of a class as an index spells it; StudyError unless it can be removed.

    ``table``, ``metadata``: of the index.
    """
    known = table["class_name"].unique().tolist()
    name = spelled(known, name)
    if name not in known:
        raise StudyError(f"{name!r} is not in the index{did_you_mean(name, known)}")
    left = table[table["class_name"] != name]
    if left.empty:
        raise StudyError(f"{name!r} cannot be removed: it is the only class of the index")
    base = metadata.get("base_class_ids")
    if base is not None and not left["class_id"].isin(base).any():
        raise StudyError(
            f"{name!r} cannot be removed: it is the last class that the model was trained on, and ways of "
            "answering start from those"
        )
    return name


def remove_class(gallery, name):
    """Return a gallery without a class: none of its photographs, vectors, digests and sums is left.

    Other classes and images keep their ids; those of an enrolled class are not given again. The threshold, the
    curve of the probability and what ways of answering chose stay. StudyError as `check_removable`.
    """
    name = check_removable(gallery.table, gallery.metadata, name)
    gone = (gallery.table["class_name"] == name).to_numpy()
    class_id = int(gallery.table["class_id"][gone].iloc[0])
    left = gallery.table[~gone].reset_index(drop=True)
    names = list(gallery.metadata["class_names"])
    if class_id >= gallery.metadata.get("dataset_classes", 0):
        names[class_id] = None
    ids = set(left["image_id"].tolist())
    without = replace(
        gallery,
        embeddings=gallery.embeddings[~gone],
        table=left.assign(row=np.arange(len(left))),
        metadata={**gallery.metadata, "class_names": names, "images": len(left)},
        digests={image: digest for image, digest in gallery.digests.items() if image in ids},
    )
    return renewed(without)


def only_classes(gallery, wanted):
    """The gallery with the images of some classes only; ``wanted``: their names, or None for all.

    StudyError for a name that is not in the gallery.
    """
    if wanted is None:
        return gallery
    known = gallery.table["class_name"].unique().tolist()
    rows = gallery.table["class_name"].isin(names_of_classes(known, wanted)).to_numpy()
    table = gallery.table[rows].reset_index(drop=True)
    return replace(
        gallery, embeddings=gallery.embeddings[rows], table=table.assign(row=np.arange(len(table)))
    )


def names_of_classes(known, wanted):
    """The names ``wanted`` as an index spells them; ``known``: its names. StudyError for another name."""
    found = [spelled(known, name) for name in wanted]
    for name in found:
        if name not in known:
            raise StudyError(f"{name!r} is not in the index{did_you_mean(name, known)}")
    return found


def classify(gallery, embeddings, neighbours, threshold=None, threads=None, *, answer=NEAREST):
    """Classify photographs by their nearest gallery images: a table with a row per photograph.

    ``embeddings``: float32 (n, dim), L2-normalised; ``neighbours``: number of images that vote;
    ``threshold``: a similarity, by default that of the index. Columns: known (1 if the nearest image
    reaches the threshold, else 0), nearest_image_id, nearest_class_id, nearest_class_name, nearest_path,
    similarity (cosine), distance (Euclidean between unit vectors: √(2 − 2 · similarity)), vote_class_id,
    vote_class_name, votes (of that class), voters (all), probability (that the nearest image has the
    photograph's class, if that is enrolled; empty for an index without a calibration); answer, answer_class_id,
    answer_class_name, answer_score: the way of answering ``answer`` (a name of `answering.names`), its
    class and the score of that class; of the nearest neighbour, its class and similarity. Ties of similarity
    go to the smallest image id; ties of the vote: see `metrics.majority_vote`.
    """
    columns = columns_of(gallery.table)
    found, _, _ = found_nearest(
        gallery.embeddings,
        columns,
        gallery.metadata,
        embeddings,
        neighbours,
        threshold=threshold,
        threads=threads,
    )
    class_of_answer, score = found["nearest_class_id"], found["similarity"]
    if answer != NEAREST:
        class_of_answer, score = answered(gallery, answer, embeddings)
    names = np.array(gallery.metadata["class_names"], dtype=object)
    return pd.DataFrame(
        found
        | {
            "answer": answer,
            "answer_class_id": class_of_answer,
            "answer_class_name": names[class_of_answer],
            "answer_score": score,
        }
    )


def columns_of(table):
    """The columns of an index's table (`COLUMNS`) as arrays: {name: (images,)}."""
    return {name: table[name].to_numpy() for name in COLUMNS}


def found_nearest(
    vectors, columns, metadata, embeddings, neighbours, *, shown=0, threshold=None, threads=None
):
    """What `classify` says by the nearest neighbour, without pandas, which takes milliseconds for few photographs.

    ``vectors`` (images, dim), ``columns`` (`columns_of`), ``metadata``: of an index, or of some of its images.
    Returns ({column of `classify`: values (n,)}, similarities, rows): the last two (n, k) are the nearest images,
    where k is the larger of ``neighbours`` and ``shown``, or the number of images if they are fewer.
    """
    similarities, rows = nearest_neighbours(
        embeddings, vectors, max(neighbours, shown), ids=columns["image_id"], threads=threads
    )
    if threshold is None:
        threshold = metadata["threshold"]["similarity"]
    class_ids, names = columns["class_id"], np.array(metadata["class_names"], dtype=object)
    vote, votes = majority_vote(class_ids[rows], neighbours)
    nearest, similarity = rows[:, 0], similarities[:, 0]
    found = {
        "known": (similarity >= threshold).astype(int),
        "nearest_image_id": columns["image_id"][nearest],
        "nearest_class_id": class_ids[nearest],
        "nearest_class_name": columns["class_name"][nearest],
        "nearest_path": columns["path"][nearest],
        "similarity": similarity,
        "distance": distance(similarity),
        "vote_class_id": vote,
        "vote_class_name": names[vote],
        "votes": votes,
        "voters": np.full(len(rows), min(neighbours, rows.shape[1])),
        "probability": probabilities(metadata.get("calibration"), embeddings, vectors, class_ids),
    }
    return found, similarities, rows
