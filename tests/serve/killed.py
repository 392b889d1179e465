"""Changes an index without HTTP, and is killed at a chosen moment of it: a program of the tests of kills.

killed.py RUN MOMENT NAME PHOTOGRAPH…: enrols; without photographs, NAME is a class to remove, or "undo".
"""

import os
import sys
from argparse import Namespace
from pathlib import Path

import faiss
import numpy as np
from deaths import after, die

from dmlstudy.use import replacing
from dmlstudy.use.changed_index import ChangedIndex
from dmlstudy.use.index_files import ENROLLED, MADE
from dmlstudy.use.kept_photographs import KeptPhotographs
from dmlstudy.use.service import shelf
from dmlstudy.use.service.files import Files, Photograph
from dmlstudy.use.stores.faiss_folder import FaissFolder

run, moment, name, *photographs = sys.argv[1:]


if moment == "vectors are being written":
    faiss.write_index = die
elif moment == "before the exchange":
    replacing._exchanged = die
elif moment == "between two renames":
    replacing._exchanged = lambda *names: False
    os.rename = after(os.rename)
elif moment == "after the exchange":
    replacing._exchanged = after(replacing._exchanged)
elif moment == "before the answer":
    FaissFolder.write = after(FaissFolder.write)
elif moment == "photographs are kept":
    Files.keep = after(Files.keep)
elif moment == "before the index is written":
    FaissFolder.write = die
index = ChangedIndex(Namespace(run=Path(run), out=ENROLLED, index=MADE[0], store=None))
kept = shelf.Shelf(index, Files(index.out.beside), 1)
if moment == "photographs are deleted":
    # Not before, when the start tidies.
    KeptPhotographs._delete = after(KeptPhotographs._delete)
if name == "undo":
    kept.undo()
elif not photographs:
    table = kept.gallery.table
    kept.remove(int(table["class_id"][table["class_name"] == name].iloc[0]))
else:
    given = [Photograph.of(path, Path(path).name) for path in photographs]
    rng = np.random.default_rng(len(name))
    vectors = rng.standard_normal((len(given), kept.gallery.embeddings.shape[1]))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    kept.enrol(name, given, vectors, "a test")
