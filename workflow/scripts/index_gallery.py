"""Make the search index of a run from the embeddings of its gallery."""

import argparse
import contextlib
import json
import os
import zipfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.core.options import check_input, check_number, check_output
from dmlstudy.data.dataset import Dataset, read_manifest
from dmlstudy.evaluate.thresholds import HELD_OUT, WAYS
from dmlstudy.use.answering import with_answers
from dmlstudy.use.gallery import make_gallery
from dmlstudy.use.stores import places
from dmlstudy.use.stores.faiss_folder import FaissFolder


def read(path):
    """The embeddings of a run; StudyError if the file does not hold such."""
    try:
        with np.load(path) as stored:
            return dict(stored)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise StudyError(f"{path}: not the embeddings of a run: {error}") from None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", required=True, help="embeddings.npz of the run")
    parser.add_argument("--model", required=True, help="model.pt of the run")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--class-set", required=True, help="table of the class set")
    parser.add_argument("--seen-only", action="store_true", help="only index the seen classes")
    parser.add_argument(
        "--accepted-share",
        type=float,
        default=0.95,
        help="wanted share of accepted photographs of enrolled classes (0.95)",
    )
    parser.add_argument(
        "--threshold",
        choices=WAYS,
        default=HELD_OUT,
        help="images that the threshold is chosen on: those of classes that the model was not trained on "
        "(the default), or all indexed images",
    )
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="the model was not trained on any image of the data set",
    )
    parser.add_argument(
        "--limited",
        nargs="*",
        default=[],
        help="embeddings.npz of limited models, for a model that was trained on all classes",
    )
    parser.add_argument(
        "--limited-sets", nargs="*", default=[], help="their tables of the class set, in order"
    )
    parser.add_argument(
        "--answers",
        type=json.loads,
        default=[{"kind": "nearest"}],
        help="ways of answering, the nearest neighbour first (alone, if not given): JSON, a list of "
        '{"kind": name, parameter: value}',
    )
    parser.add_argument("--data", default="", help="name of the data set, for index.json")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="index folder to write")
    places.add_option(parser, "--out")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        check_number("--accepted-share", args.accepted_share, above=0, most=1)
        check_number("--threads", args.threads, least=1)
        for option in ("embeddings", "model", "manifest", "split", "class_set"):
            check_input(f"--{option.replace('_', '-')}", getattr(args, option))
        if len(args.limited) != len(args.limited_sets):
            raise StudyError(
                f"--limited-sets: must be as many as --limited ({len(args.limited)}), "
                f"not {len(args.limited_sets)}"
            )
        for option, paths in (("limited", args.limited), ("limited-sets", args.limited_sets)):
            for path in paths:
                check_input(f"--{option}", path)
        if (args.out is None) == (args.store is None):
            raise StudyError("--out, --store: give one of them, the index to write")
        if args.store is None:
            check_output("--out", args.out, folder=True)
            store = FaissFolder(args.out, args.model)
        else:
            store = places.open_store(args.store, Path(args.model).parent)
        store.check()
        dataset = Dataset.read(args.manifest, args.split, args.class_set)
        embeddings = read(args.embeddings)
        limited = [
            (read(path), ~Dataset.read(args.manifest, args.split, table).seen)
            for path, table in zip(args.limited, args.limited_sets, strict=True)
        ]
        try:
            gallery = make_gallery(
                embeddings,
                read_manifest(args.manifest),
                dataset.seen if args.seen_only else np.ones_like(dataset.seen),
                model_sha256=file_digest(args.model),
                accepted_share=args.accepted_share,
                way=args.threshold,
                held_out=np.ones_like(dataset.seen) if args.untrained else ~dataset.seen,
                limited=limited,
                data=args.data,
                threads=args.threads,
            )
            with console.Progress(len(args.answers), "Fitting", "ways of answering") as progress:
                gallery = with_answers(
                    gallery,
                    args.answers,
                    base=dataset.seen,
                    embeddings=embeddings,
                    progress=progress,
                )
        except StudyError as error:
            raise StudyError(f"{args.embeddings}: {error}") from None
        # Nobody but the workflow writes the folder --out.
        with contextlib.nullcontext() if args.store is None else store.changing():
            store.write(gallery)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
