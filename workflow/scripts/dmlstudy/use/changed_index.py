"""The index that a program changes: which one it starts from, and which store it writes to."""

import logging

from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_output
from dmlstudy.use.index_files import ENROLLED, MADE, index_folder
from dmlstudy.use.run_folder import MODEL, check_run
from dmlstudy.use.stores import places
from dmlstudy.use.stores.faiss_folder import FaissFolder
from dmlstudy.use.stores.store import Unreachable


def add_options(parser):
    """The options that say which index is changed."""
    parser.add_argument(
        "--out",
        help=f"index folder to change: a name in the run's folder, or a path ({ENROLLED})",
    )
    places.add_option(parser, "--out")
    parser.add_argument(
        "--index",
        default=MADE[0],
        help=f"index folder to start from if there is no index in --out or --store yet ({MADE[0]})",
    )


class ChangedIndex:
    """The index of ``args.run`` that is changed: ``out``, a `Store`. StudyError if it may not be, or is none."""

    def __init__(self, args):
        self.model = args.run / MODEL
        if args.store is not None and args.out is not None:
            raise StudyError("--out, --store: give one of them; both name the index to change")
        check_run(args.run)
        self.out = (
            self._folder(args) if args.store is None else places.open_store(args.store, args.run)
        )
        self._first = FaissFolder(index_folder(args.run, args.index), self.model)
        if isinstance(self.out, FaissFolder):
            folder = self.out.folder
            if folder.resolve() in [(args.run / made).resolve() for made in MADE]:
                raise StudyError(
                    f"{folder}: the workflow makes this index; choose another folder with --out"
                )
            check_output("--out", folder, folder=True)
        self.out.check()
        self.start.metadata()

    def _folder(self, args):
        return FaissFolder(
            index_folder(args.run, ENROLLED if args.out is None else args.out), self.model
        )

    @property
    def start(self):
        """The store to start from: the one to change, if it has an index."""
        return self.out if self.out.exists() else self._first

    def stamp(self):
        """Tells one content of the index from another; None while it cannot be told."""
        try:
            for store in (self.out, self._first):
                stamp = store.stamp()
                if stamp is not None:
                    return str(store), stamp
                if store.exists():
                    break
        except Unreachable as error:
            logging.getLogger(__name__).warning("%s", error)
        return None

    def change(self, changed, then=None):
        """Write what ``changed`` makes of the `Gallery`, and return it; other programs wait meanwhile.

        ``then``: called with the gallery that was written, while they still wait.
        """
        with self.out.changing():
            gallery = changed(self.start.read())
            self.out.write(gallery)
            if then is not None:
                then(gallery)
        return gallery
