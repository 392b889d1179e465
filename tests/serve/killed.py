"""Enrols photographs without HTTP, and is killed at a chosen moment of it: a program of test_kills_of_the_service.

killed.py RUN MOMENT NAME PHOTOGRAPH…
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
index = ChangedIndex(Namespace(run=Path(run), out=ENROLLED, index=MADE[0], store=None))
kept = shelf.Shelf(index, Files(index.out.beside), 1)
given = [Photograph.of(path, Path(path).name) for path in photographs]
rng = np.random.default_rng(len(name))
vectors = rng.standard_normal((len(given), kept.gallery.embeddings.shape[1])).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
kept.enrol(name, given, vectors, "a test")
