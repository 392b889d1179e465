"""Make the search index of a run from the embeddings of its gallery."""

import argparse
import os
import zipfile

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.core.options import check_input, check_number, check_output
from dmlstudy.data.dataset import Dataset, read_manifest
from dmlstudy.use.gallery import check_replaceable, make_gallery, write_gallery


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
        help="share of the indexed images that the threshold must accept (0.95)",
    )
    parser.add_argument("--data", default="", help="name of the data set, for index.json")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, help="index folder to write")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        check_number("--accepted-share", args.accepted_share, above=0, most=1)
        check_number("--threads", args.threads, least=1)
        for option in ("embeddings", "model", "manifest", "split", "class_set"):
            check_input(f"--{option.replace('_', '-')}", getattr(args, option))
        check_output("--out", args.out, folder=True)
        check_replaceable(args.out)
        dataset = Dataset.read(args.manifest, args.split, args.class_set)
        try:
            with np.load(args.embeddings) as stored:
                embeddings = dict(stored)
        except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise StudyError(f"{args.embeddings}: not the embeddings of a run: {error}") from None
        try:
            gallery = make_gallery(
                embeddings,
                read_manifest(args.manifest),
                dataset.seen if args.seen_only else np.ones_like(dataset.seen),
                model_sha256=file_digest(args.model),
                accepted_share=args.accepted_share,
                data=args.data,
                threads=args.threads,
            )
        except StudyError as error:
            raise StudyError(f"{args.embeddings}: {error}") from None
        write_gallery(args.out, gallery)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
