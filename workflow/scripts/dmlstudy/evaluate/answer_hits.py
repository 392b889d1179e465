"""Which queries each way of answering names correctly: what differences between experiments are paired by.

One file per experiment, ``answers_hits.npz``. NumPy only.
"""

import zipfile
from dataclasses import dataclass, field

import numpy as np

from dmlstudy.core.files import StudyError, atomic_path

HITS = "answers_hits.npz"
SOFTMAX = "softmax"


@dataclass
class Enrolled:
    """The answers of a limited model after images of unseen classes were enrolled.

    ``photographs``: how many of each class, as texts, the last one ``all``; ``draws``: how often each number
    was drawn; ``hits``: how many of the draws name a query correctly, uint16 (seeds, answers, photographs,
    queries).
    """

    photographs: list
    draws: list
    hits: np.ndarray


@dataclass
class AnswerHits:
    """Hits of all runs of an experiment.

    ``query_classes`` (queries,): class id of each query; ``answers``: names of the ways; ``enrolled``:
    {limited class set: `Enrolled`}. Of the all-classes models: ``trained_answers``, the ways and perhaps
    `SOFTMAX`, the classifier's own; ``trained``: bool (seeds, answers, queries). ``class_weights``: how
    many numbers the loss of an all-classes model learnt for its classes; 0 if its file has none.
    """

    query_classes: np.ndarray
    answers: list
    trained_answers: list
    trained: np.ndarray
    class_weights: int = 0
    enrolled: dict = field(default_factory=dict)

    def write(self, path):
        """Write the file. Equal hits give equal bytes."""
        arrays = {
            "query_classes": self.query_classes.astype(np.int32),
            "answers": np.array(self.answers),
            "trained_answers": np.array(self.trained_answers),
            "trained": self.trained,
            "class_weights": np.array(self.class_weights),
            "class_sets": np.array(list(self.enrolled)),
        }
        for name, one in self.enrolled.items():
            arrays[f"{name}_photographs"] = np.array(one.photographs)
            arrays[f"{name}_draws"] = np.array(one.draws, dtype=np.int32)
            arrays[f"{name}_hits"] = one.hits.astype(np.uint16)
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)

    @classmethod
    def read(cls, path):
        """Read a file that `write` wrote; StudyError names it if it is missing or something else."""
        try:
            with np.load(path) as stored:
                arrays = dict(stored)
            enrolled = {
                name: Enrolled(
                    arrays[f"{name}_photographs"].tolist(),
                    arrays[f"{name}_draws"].tolist(),
                    arrays[f"{name}_hits"],
                )
                for name in arrays["class_sets"].tolist()
            }
            return cls(
                arrays["query_classes"],
                arrays["answers"].tolist(),
                arrays["trained_answers"].tolist(),
                arrays["trained"],
                int(arrays["class_weights"]),
                enrolled,
            )
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise StudyError(
                f"{path}: holds no answers of queries ({error}); make it again with: "
                "snakemake … --forcerun answer"
            ) from None
