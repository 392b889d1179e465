"""Changes an index in a process of its own, which may be killed at a chosen moment."""

import multiprocessing
from pathlib import Path

import faiss
import numpy as np
from deaths import after, die
from helpers import unit

from dmlstudy.use import replacing
from dmlstudy.use.gallery import enrol
from dmlstudy.use.stores.places import open_store
from dmlstudy.use.stores.tables import Tables

# Whether the change is there afterwards.
MOMENTS = {"half of it is written": False, "before the end": False, "before the answer": True}
PHOTOGRAPHS = 3


def enrol_class(place, run, name):
    """Enrol a class of `PHOTOGRAPHS` photographs."""
    store = open_store(place, run)
    with store.changing():
        gallery = store.read()
        vectors = unit(np.random.default_rng(len(gallery.table)), PHOTOGRAPHS, 8)
        paths = [f"/{name}/{number}.jpg" for number in range(PHOTOGRAPHS)]
        digests = [path.encode().hex().rjust(64, "0") for path in paths]
        store.write(enrol(gallery, name, vectors, paths, digests=digests))


def enrol_classes(place, run, names, acknowledged):
    """Enrol classes one after the other; a line of the file ``acknowledged`` says that one is there."""
    with open(acknowledged, "a") as stream:
        for name in names:
            enrol_class(place, run, name)
            stream.write(f"{name}\n")
            stream.flush()


def enrol_and_die(place, run, name, moment):
    """Enrol a class and be killed at a moment of it."""
    kind = type(open_store(place, run))
    sql = issubclass(kind, Tables)
    if moment == "half of it is written" and sql:
        stored, left = kind._stored, iter(range(2))
        kind._stored = lambda self, vector: (
            die() if next(left, None) is None else stored(self, vector)
        )
    elif moment == "half of it is written":
        faiss.write_index = after(faiss.write_index)
    elif moment == "before the end" and sql:
        kind._write = after(kind._write)
    elif moment == "before the end":
        replacing._exchanged = die
    else:
        kind.write = after(kind.write)
    enrol_class(place, run, name)


def in_process(work, *arguments):
    """A process that runs ``work(*arguments)``."""
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    return process


def counts(gallery):
    """{class: photographs} of the classes that were enrolled here, after checks that nothing is there by half."""
    assert len(gallery.table) == len(gallery.embeddings) == gallery.metadata["images"]
    assert gallery.table["image_id"].is_unique
    np.testing.assert_allclose(np.linalg.norm(gallery.embeddings, axis=1), 1, atol=1e-5)
    enrolled = gallery.table[gallery.table["path"].map(lambda path: Path(path).is_absolute())]
    assert set(enrolled["image_id"]) <= gallery.digests.keys()
    return enrolled["class_name"].value_counts().to_dict()
