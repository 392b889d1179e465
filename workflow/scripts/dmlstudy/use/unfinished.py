"""Embeddings of a long enrolment, kept on disk part by part: after an interruption the next attempt goes on there."""

import contextlib
import hashlib
import logging
import time
import zipfile
from pathlib import Path

import numpy as np

from dmlstudy.core.files import StudyError, atomic_path

# The fewest photographs of a part; shorter enrolments are not worth a file.
PART = 512
# Seconds after which the parts of an enrolment that nobody finished are removed.
FORGOTTEN = 7 * 24 * 3600


def embed_in_parts(model, photos, digests, *, max_pixels, folder, of_model, progress):
    """Embeddings of photographs, taken from ``folder`` where an earlier attempt has left them.

    ``model``: a `TrainedModel`; ``photos``: n paths, ``digests``: their SHA-256; ``of_model``: SHA-256 of the
    model's file; ``progress(count)`` is called as photographs are done. Returns (embeddings float32 (n, dim),
    L2-normalised; problems, a sentence for each photograph that cannot be read; the parts' files, which the
    caller removes with `forget` once the embeddings are enrolled). Embeddings equal those of one attempt to the
    bit: a part has whole batches. Fewer than two parts are not kept.
    """
    size = -(-PART // model.at_a_time) * model.at_a_time
    embeddings, problems, files = [], [], []
    kept = len(photos) > size
    if kept:
        _sweep(folder)
    found = 0
    for start in range(0, len(photos), size):
        some, names = photos[start : start + size], digests[start : start + size]
        file = folder / f"{_key(of_model, max_pixels, names)}.npz"
        vectors = _read(file, len(some)) if kept else None
        if vectors is not None:
            found += len(some)
            progress(len(some))
        else:
            vectors, _, wrong = model.embed(some, max_pixels=max_pixels, progress=progress)
            problems += wrong
            if kept and not wrong:
                kept = _write(file, vectors)
        files.append(file)
        embeddings.append(vectors)
    if found:
        logging.info("%d photographs were embedded by an earlier attempt", found)
    return (
        np.concatenate([one for one in embeddings if len(one)] or [np.empty((0, 0))]),
        problems,
        files,
    )


def forget(files):
    """Remove parts, and their folder if it is empty."""
    for file in files:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in files}:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _key(of_model, max_pixels, digests):
    return hashlib.sha256("\n".join([of_model, str(max_pixels), *digests]).encode()).hexdigest()


def _read(file, count):
    """Embeddings (count, dim) of a part; None if it is not there or not whole."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            vectors = stored["embeddings"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == count
    return vectors if whole and np.isfinite(vectors).all() else None


def _write(file, vectors):
    """Keep a part; False if it cannot be written, which is told."""
    try:
        with atomic_path(file) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, embeddings=vectors)
    except (StudyError, OSError) as error:
        logging.warning("%s; after an interruption the enrolment would begin again", error)
        return False
    return True


def _sweep(folder):
    """Remove parts that nobody came back for."""
    for file in Path(folder).glob("*.npz"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > FORGOTTEN:
                file.unlink()
