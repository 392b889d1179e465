"""Enrol photographs as a class of an index, so that name_photos.py recognises it. Nothing is trained."""

import argparse
import os
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.core.options import check_number
from dmlstudy.use.changed_index import ChangedIndex, add_options
from dmlstudy.use.gallery import check_name, enrol, spelled
from dmlstudy.use.photographs import MAX_PIXELS, class_name_of, find_photos, stored_path, warn_of
from dmlstudy.use.unfinished import embed_in_parts, forget

# Folder of a run with the embeddings of an enrolment that was interrupted.
UNFINISHED = "enrolling"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", metavar="FOLDER_OR_PHOTO")
    parser.add_argument("--run", required=True, type=Path, help="folder that holds model.pt")
    parser.add_argument("--name", required=True, help="name of the class")
    add_options(parser)
    parser.add_argument(
        "--add-to-existing",
        action="store_true",
        help="add the photographs to a class that is already in the index",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        help=f"refuse photographs with more pixels, like dataset.max_pixels ({MAX_PIXELS})",
    )
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        name = class_name_of(args.name)
        check_number("--max-pixels", args.max_pixels, least=1)
        index = ChangedIndex(args)
        table = index.start.table()
        name = spelled(table["class_name"], name)
        check_name(table, name, args.add_to_existing)
        photos, problems, left_out = find_photos(args.photos)
        warn_of(left_out)
        if not problems:
            # Imported here because torch takes seconds to start: report mistakes before.
            from dmlstudy.use.trained_model import TrainedModel

            digests = [file_digest(photo) for photo in photos]
            with console.Progress(len(photos), "Embedding", "photos") as progress:
                embeddings, problems, parts = embed_in_parts(
                    TrainedModel(index.model),
                    photos,
                    digests,
                    max_pixels=args.max_pixels,
                    folder=args.run / UNFINISHED,
                    of_model=file_digest(index.model),
                    progress=progress,
                )
        if problems:
            lines = "\n".join(map(console.printable, problems))
            raise StudyError(f"nothing was enrolled:\n{lines}")
        gallery = index.change(
            partial(
                enrol,
                name=name,
                embeddings=embeddings,
                paths=[stored_path(photo) for photo in photos],
                existing=args.add_to_existing,
                digests=digests,
            )
        )
        forget(parts)
        held = int((gallery.table["class_name"] == name).sum())
        print(
            f"{index.out}: {len(photos)} photographs enrolled as {name}, which now has {held}; the index "
            f"has {gallery.table['class_id'].nunique()} classes and {len(gallery.table)} images"
        )

    console.run(work, args.log)


if __name__ == "__main__":
    main()
