"""Enrol photographs as a class of an index, so that name_photos.py recognises it. Nothing is trained."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.core.options import check_number, check_output
from dmlstudy.use.gallery import (
    ENROLLED,
    MADE,
    check_gallery,
    check_name,
    check_replaceable,
    enrol,
    exclusive_access,
    index_folder,
    read_gallery,
    read_table,
    spelled,
    write_gallery,
)
from dmlstudy.use.photographs import MAX_PIXELS, class_name_of, find_photos, stored_path, warn_of
from dmlstudy.use.run_folder import check_run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", metavar="FOLDER_OR_PHOTO")
    parser.add_argument("--run", required=True, type=Path, help="folder that holds model.pt")
    parser.add_argument("--name", required=True, help="name of the class")
    parser.add_argument(
        "--out",
        default=ENROLLED,
        help="index folder to add the class to: a name in the run's folder, or a path "
        f"({ENROLLED}); classes enrolled before are kept",
    )
    parser.add_argument(
        "--index",
        default=MADE[0],
        help=f"index folder to start from if --out does not exist yet ({MADE[0]})",
    )
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
    model_file = args.run / "model.pt"
    out = index_folder(args.run, args.out)

    def start():
        return out if out.exists() else index_folder(args.run, args.index)

    def work():
        name = class_name_of(args.name)
        check_number("--max-pixels", args.max_pixels, least=1)
        if out.resolve() in [(args.run / made).resolve() for made in MADE]:
            raise StudyError(
                f"{out}: the workflow makes this index; choose another folder with --out"
            )
        check_run(args.run)
        check_output("--out", out, folder=True)
        check_replaceable(out)
        check_gallery(start(), model_file)
        table = read_table(start())
        name = spelled(table["class_name"], name)
        check_name(table, name, args.add_to_existing)
        photos, problems, left_out = find_photos(args.photos)
        warn_of(left_out)
        if not problems:
            # Imported here because torch takes seconds to start: report mistakes before.
            from dmlstudy.use.trained_model import TrainedModel

            with console.Progress(len(photos), "Embedding", "photos") as progress:
                embeddings, photos, problems = TrainedModel(model_file).embed(
                    photos, max_pixels=args.max_pixels, progress=progress
                )
        if problems:
            lines = "\n".join(map(console.printable, problems))
            raise StudyError(f"nothing was enrolled:\n{lines}")
        digests = [file_digest(photo) for photo in photos]
        with exclusive_access(out):
            gallery = enrol(
                read_gallery(start(), model_file),
                name,
                embeddings,
                [stored_path(photo) for photo in photos],
                existing=args.add_to_existing,
                digests=digests,
            )
            write_gallery(out, gallery)
        held = int((gallery.table["class_name"] == name).sum())
        print(
            f"{out}: {len(photos)} photographs enrolled as {name}, which now has {held}; the index "
            f"has {gallery.table['class_id'].nunique()} classes and {len(gallery.table)} images"
        )

    console.run(work, args.log)


if __name__ == "__main__":
    main()
