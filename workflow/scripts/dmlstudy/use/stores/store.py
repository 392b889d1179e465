"""What a store of an index can do. Each kind of store is a module beside this one; `places` chooses one.

A store keeps a `Gallery` and changes it as a whole: what is enrolled, removed or renamed is said in `gallery`, once
for all stores, so the same enrolments give the same answers in each.
"""

import contextlib

from dmlstudy.core.files import StudyError


class Unreachable(StudyError):
    """A store that cannot be asked now; later it may be."""


class Store:
    """A place that holds an index, or will. Its text is its name for people, which never has a password.

    ``model``: path of the model.pt that the index belongs to; ``beside``: the service keeps its files in a folder of
    this path and ``_files``. All methods may be called by several threads, `write` within `changing` only.
    """

    def __init__(self, model, beside):
        self.model, self.beside = model, beside

    def exists(self):
        """Whether it holds an index."""
        raise NotImplementedError

    def check(self):
        """Raise StudyError if an index cannot be written here, or would replace anything else."""
        raise NotImplementedError

    def metadata(self):
        """The content of index.json. Raises StudyError as `index_files.check_gallery`."""
        raise NotImplementedError

    def table(self):
        """The image behind each row (`gallery.COLUMNS`), without embeddings."""
        raise NotImplementedError

    def stamp(self):
        """A value that tells one content from another, quickly; None while it cannot be told."""
        raise NotImplementedError

    def read(self):
        """The `Gallery` as it is at one moment. Its arrays are not to be changed in place."""
        raise NotImplementedError

    @contextlib.contextmanager
    def changing(self):
        """Nobody else changes the index meanwhile: other programs and threads wait."""
        raise NotImplementedError
        yield

    def write(self, gallery):
        """Replace the index by a `Gallery`: all of it is on the disk afterwards, or nothing has changed."""
        raise NotImplementedError

    def near(self, embeddings, count, only=None):
        """A `Gallery` of fewer images that `gallery.classify` answers from as from the whole index.

        ``embeddings``: float32 (n, dim) of the photographs; ``count``: neighbours that vote; ``only``: names of the
        classes to compare with, or None for all. StudyError for a name that is not in the index.
        """
        raise NotImplementedError
