"""The ways of answering of an index: chosen when it is made, fitted to its photographs when they are asked.

What a way chooses, it chooses once, on the photographs of base classes, the classes that the model was trained
on; ``index.json`` has the result. Everything else follows from the stored embeddings in closed form, so enrolled
and removed classes need no care. Only what takes long to compute again is stored: `Answer.keep`.
"""

import dataclasses
import zipfile

import numpy as np

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.core.names import known_names
from dmlstudy.evaluate.answer_tables import NEAREST, built, names_of, one_thread

IMAGE_IDS = "image_ids"


def with_answers(gallery, pieces, *, base, embeddings, progress=None):
    """A `Gallery` that answers in several ways.

    ``pieces``: complete pieces of the ways, see `recipes.complete_answers`; ``base``: boolean array over class
    ids, the classes that the model was trained on; ``embeddings``: mapping of a run's stored arrays, for the
    class weights that its loss learnt. Ways that need such weights are left out if there are none.
    ``progress(1)`` is called after each way. Raises StudyError as `Answer.fit`.
    """
    if "classifier_weights" in embeddings:
        weights = {
            "class_ids": embeddings["classifier_class_ids"],
            "weights": embeddings["classifier_weights"],
        }
        gallery = dataclasses.replace(gallery, class_weights=weights)
    pieces = [one for one in pieces if gallery.class_weights or not built(one).needs_weights]
    entries = [
        {"name": name, "piece": piece, "chosen": {}}
        for name, piece in zip(names_of(pieces), pieces, strict=True)
    ]
    metadata = {
        **gallery.metadata,
        "base_class_ids": np.flatnonzero(base).tolist(),
        "answers": entries,
    }
    gallery = dataclasses.replace(gallery, metadata=metadata, kept={})
    for entry in entries:
        way = _fit(gallery, entry, chosen=None)
        entry["chosen"] = way.chosen
        _keep(gallery, entry["name"], way)
        if progress:
            progress(1)
    return gallery


def names(metadata):
    """Names of the ways that an index answers in; an index of an earlier version has the nearest neighbour only."""
    return [entry["name"] for entry in metadata.get("answers", [])] or [NEAREST]


def check_answer(metadata, name, rebuild):
    """Raise StudyError unless an index answers in the way ``name``.

    ``metadata``: of the index; ``rebuild``: the command that makes it, for the message.
    """
    known = names(metadata)
    if name in known:
        return
    registered = name in registry.kinds("answer")
    if "answers" not in metadata and registered:
        raise StudyError(
            f"--answer {name}: the index is of an earlier version, which answers by {NEAREST} only. Delete its "
            f"folder, make the run's index with: {rebuild}, and enrol your classes again"
        )
    problem = f"--answer {name}: the index does not answer in this way{known_names(name, known)}"
    kinds = [entry["piece"]["kind"] for entry in metadata.get("answers", [])]
    if registered and name not in kinds:
        problem += (
            f". {name} needs a loss that learns a vector per class"
            if built({"kind": name}).needs_weights
            else f". Add {name} to evaluation.answers of the configuration, and make the index again"
        )
    raise StudyError(problem)


def fitted(gallery, name):
    """The way of answering ``name`` with all photographs of a `Gallery`: an `answers.answer.Answer`."""
    entry = _entry(gallery.metadata, name)
    return _fit(gallery, entry, chosen=entry["chosen"])


def answered(gallery, name, embeddings):
    """(class ids (n,), scores (n,)) of embeddings (n, dim), in the way ``name``."""
    with one_thread():
        return fitted(gallery, name).answers(np.asarray(embeddings))


def renewed(gallery):
    """A `Gallery` that keeps nothing of photographs that it no longer has."""
    ids = gallery.table["image_id"].to_numpy()
    whole = {
        name: kept
        for name, kept in gallery.kept.items()
        if np.isin(_arrays(kept, IMAGE_IDS)[IMAGE_IDS], ids).all()
    }
    void = gallery.kept.keys() - whole.keys()
    gallery = dataclasses.replace(gallery, kept=whole)
    for name in sorted(void):
        _keep(gallery, name, fitted(gallery, name))
    return gallery


def in_words(metadata, name):
    """A sentence for people: in which way an index answers, with which parameters, and what is unknown."""
    entry = _entry(metadata, name)
    values = {key: value for key, value in entry["piece"].items() if key != "kind"}
    shown = ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in (values | entry["chosen"]).items()
    )
    return (
        f"answers by {name}{f' ({shown})' if shown else ''}; unknown is what is less similar to its nearest image "
        "than the threshold, as for the nearest neighbour"
    )


def _entry(metadata, name):
    return next(one for one in metadata["answers"] if one["name"] == name)


def _arrays(kept, *names):
    """Arrays that a way keeps, all or those of ``names``; ``kept``: the arrays, or the file that holds them."""
    if isinstance(kept, dict):
        return kept
    try:
        with np.load(kept) as stored:
            return {name: stored[name] for name in names or stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StudyError(
            f"{kept}: cannot be read ({error}); delete the folder and make the index again"
        ) from None


def _keep(gallery, name, way):
    kept = way.keep()
    if kept:
        gallery.kept[name] = {**kept, IMAGE_IDS: way.image_ids}


def _fit(gallery, entry, chosen):
    way = built(entry["piece"])
    if way.needs_weights:
        weights = gallery.class_weights
        pairs = zip(weights["class_ids"].tolist(), weights["weights"].astype(float), strict=True)
        way.with_weights(dict(pairs))
    ids, classes = (gallery.table[name].to_numpy() for name in ("image_id", "class_id"))
    kept, rows = gallery.kept.get(entry["name"]), np.ones(len(ids), dtype=bool)
    if kept is not None:
        kept = dict(_arrays(kept))
        of = kept.pop(IMAGE_IDS)
        if np.isin(of, ids).all():
            rows = np.isin(ids, of)
        else:
            # Another program replaced the index since it was read; without what it keeps the answer is the same.
            kept = None
    with one_thread():
        way.fit(
            gallery.embeddings[rows],
            classes[rows],
            base=gallery.metadata["base_class_ids"],
            image_ids=ids[rows],
            chosen=chosen,
            kept=kept,
        )
        if not rows.all():
            way.add(gallery.embeddings[~rows], classes[~rows], image_ids=ids[~rows])
    return way
