"""Find photographs that a data set holds several times, also in another size or compression."""

import argparse
import logging

from dmlstudy.core import console
from dmlstudy.data.copies import find_copies, hash_images
from dmlstudy.data.dataset import read_manifest, write_csv


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the data set")
    parser.add_argument("--manifest", required=True)
    parser.add_argument(
        "--near",
        type=int,
        help="bits of 128 that may differ between near duplicates; without it only files with the same bytes "
        "are copies",
    )
    parser.add_argument("--max-pixels", type=int, default=100_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        manifest = read_manifest(args.manifest)
        options = {"max_pixels": args.max_pixels, "threads": args.threads}
        hashes = None
        if args.near is not None:
            with console.Progress(len(manifest), "find copies", "images") as progress:
                hashes = hash_images(args.images, manifest["path"], progress=progress, **options)
        table = find_copies(args.images, manifest, hashes, near=args.near, **options)
        logging.info("%d photographs in %d sets of copies", len(table), table["set"].nunique())
        write_csv(args.out, table)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
