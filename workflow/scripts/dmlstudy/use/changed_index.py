"""The index that a program changes: which folder it starts from, and which it writes."""

from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_output
from dmlstudy.use.index_files import (
    ENROLLED,
    MADE,
    check_gallery,
    check_replaceable,
    exclusive_access,
    index_folder,
    read_gallery,
    write_gallery,
)
from dmlstudy.use.run_folder import MODEL, check_run


def add_options(parser):
    """The options that say which index is changed."""
    parser.add_argument(
        "--out",
        default=ENROLLED,
        help=f"index folder to change: a name in the run's folder, or a path ({ENROLLED})",
    )
    parser.add_argument(
        "--index",
        default=MADE[0],
        help=f"index folder to start from if --out does not exist yet ({MADE[0]})",
    )


class ChangedIndex:
    """The index of ``args.run`` that is changed. Raises StudyError if it may not be, or is none."""

    def __init__(self, args):
        self.model = args.run / MODEL
        self.out = index_folder(args.run, args.out)
        self._first = index_folder(args.run, args.index)
        if self.out.resolve() in [(args.run / made).resolve() for made in MADE]:
            raise StudyError(
                f"{self.out}: the workflow makes this index; choose another folder with --out"
            )
        check_run(args.run)
        check_output("--out", self.out, folder=True)
        check_replaceable(self.out)
        check_gallery(self.start, self.model)

    @property
    def start(self):
        """The folder to start from: the one to change, if it exists."""
        return self.out if self.out.exists() else self._first

    def change(self, changed):
        """Write what ``changed`` makes of the `Gallery`, and return it; other programs wait meanwhile."""
        with exclusive_access(self.out):
            gallery = changed(read_gallery(self.start, self.model))
            write_gallery(self.out, gallery)
        return gallery
