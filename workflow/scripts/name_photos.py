"""Name photographs with a finished run: by the nearest image or in another way of answering, or as "unknown"."""

import argparse
import logging
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console, registry
from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_number, check_output
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate.answer_tables import NEAREST
from dmlstudy.use.answering import check_answer
from dmlstudy.use.answering import in_words as words_of_answer
from dmlstudy.use.gallery import classify, names_of_classes
from dmlstudy.use.index_choices import in_words as words_of_choice
from dmlstudy.use.index_files import index_folder, rebuild_command
from dmlstudy.use.photographs import MAX_PIXELS, find_photos, stored_path, warn_of
from dmlstudy.use.stores import places
from dmlstudy.use.stores.faiss_folder import FaissFolder


def in_words(photo, row, threshold):
    """The answer for one photograph (a row of the table) as a line of text."""
    name, by_nearest = row.answer_class_name, row.answer == NEAREST
    line = f"{photo}: {name if row.known else f'unknown (would be {name})'}"
    if not by_nearest:
        line += f"; {row.answer}, score {row.answer_score:.4g}; nearest {row.nearest_class_name}"
    line += (
        f"{';' if by_nearest else ','} similarity {row.similarity:.4f}, distance {row.distance:.4f}"
    )
    line += "" if row.known else f", threshold {threshold:.4f}"
    line += f"; vote {row.vote_class_name}, {row.votes} of {row.voters}"
    # It is about the class of the nearest image.
    if by_nearest and row.probability == row.probability:
        line += f"; probability {row.probability:.2f}"
    return console.printable(f"{line}; nearest {row.nearest_path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="+", metavar="PHOTO_OR_FOLDER")
    parser.add_argument("--run", required=True, type=Path, help="folder that holds model.pt")
    parser.add_argument(
        "--index",
        help="index folder: a name in the run's folder, or a path (index_enrolled if classes were "
        "enrolled, else index)",
    )
    places.add_option(parser, "--index")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="CLASS",
        help="compare with the photographs of these classes only (all)",
    )
    parser.add_argument(
        "--neighbours", type=int, default=10, help="number of nearest images that vote (10)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="similarity below which a photograph is unknown (default: that of the index)",
    )
    parser.add_argument(
        "--answer",
        default=NEAREST,
        metavar="NAME",
        help=f"way of answering ({NEAREST}); the kinds are: {', '.join(registry.kinds('answer'))}. An index "
        "has those of the configuration's evaluation.answers",
    )
    parser.add_argument("--csv", help="also write the answers to this table")
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        help=f"refuse photographs with more pixels, like dataset.max_pixels ({MAX_PIXELS})",
    )
    parser.add_argument("--log")
    args = parser.parse_args()
    model_file = args.run / "model.pt"

    def work():
        check_number("--neighbours", args.neighbours, least=1)
        check_number("--max-pixels", args.max_pixels, least=1)
        if args.threshold is not None:
            check_number("--threshold", args.threshold)
        if args.csv is not None:
            check_output("--csv", args.csv, begins="photo,known,", holds="a table of answers")
        if args.store is not None and args.index is not None:
            raise StudyError("--index, --store: give one of them; both name the index to use")
        if args.only and args.answer != NEAREST:
            raise StudyError(
                f"--only: {args.answer} compares with all classes; leave out --only, or answer by {NEAREST}"
            )
        if args.store is None:
            store = FaissFolder(index_folder(args.run, args.index), model_file)
        else:
            store = places.open_store(args.store, args.run)
        metadata = store.metadata()
        rebuild = rebuild_command(index_folder(args.run, args.index), model_file)
        check_answer(metadata, args.answer, rebuild)
        if args.only:
            # Told before the model is loaded.
            names_of_classes(store.table()["class_name"].unique().tolist(), args.only)
        threshold = (
            metadata["threshold"]["similarity"] if args.threshold is None else args.threshold
        )
        print(
            f"index {store}: {metadata['images']} images; unknown below similarity {threshold:.4f}",
            flush=True,
        )
        if args.threshold is None:
            print(words_of_choice(metadata["threshold"], metadata.get("calibration")), flush=True)
        if args.answer != NEAREST:
            print(words_of_answer(metadata, args.answer), flush=True)
        if not -1 <= threshold <= 1:
            logging.warning(
                "--threshold %g: a similarity is between -1 and 1, so all photographs are %s",
                threshold,
                "unknown" if threshold > 1 else "known",
            )
        if args.neighbours > metadata["images"]:
            logging.warning(
                "--neighbours %d: the index has only %d images; all of them vote",
                args.neighbours,
                metadata["images"],
            )
        photos, problems, left_out = find_photos(args.photos)
        warn_of(left_out)
        if photos:
            # Imported here because torch takes seconds to start: report mistakes before.
            from dmlstudy.use.trained_model import TrainedModel

            model = TrainedModel(model_file)
            with console.Progress(len(photos), "Naming", "photos") as progress:
                embeddings, photos, unreadable = model.embed(
                    photos, max_pixels=args.max_pixels, progress=progress
                )
            problems += unreadable
        if photos:
            if args.answer == NEAREST:
                gallery = store.near(embeddings, args.neighbours, args.only)
            else:
                gallery = store.read()
            answers = classify(
                gallery,
                embeddings,
                args.neighbours,
                threshold,
                model.threads,
                answer=args.answer,
            )
            for photo, row in zip(photos, answers.itertuples(), strict=True):
                print(in_words(photo, row, threshold), flush=True)
            if args.csv:
                answers.insert(0, "photo", [stored_path(photo) for photo in photos])
                write_csv(args.csv, answers)
        if problems:
            for problem in problems:
                logging.error("%s", console.printable(problem))
            raise StudyError(
                f"{len(problems)} of the given photographs and folders could not be read; "
                f"{len(photos)} photographs were named"
            )

    console.run(work, args.log)


if __name__ == "__main__":
    main()
