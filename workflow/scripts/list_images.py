"""Write the manifest of a data set: a row per image, with class, size and bounding box."""

import argparse
import logging

from dmlstudy.core import console
from dmlstudy.core.names import first_of
from dmlstudy.data.dataset import write_csv
from dmlstudy.data.listing import left_out
from dmlstudy.data.manifest import make_manifest


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the data set")
    parser.add_argument("--format", required=True)
    parser.add_argument("--classes", type=int, help="expected number of classes")
    parser.add_argument("--csv", help="name of the table, for the format that reads one")
    parser.add_argument("--max-pixels", type=int, default=100_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        manifest = make_manifest(
            args.images,
            args.format,
            max_pixels=args.max_pixels,
            classes=args.classes,
            csv=args.csv,
            own=args.out,
            threads=args.threads,
        )
        write_csv(args.out, manifest)
        rows = manifest[["path"]].to_dict("records")
        left = left_out(args.images, args.format, rows, own=args.out)
        if left:
            logging.warning(
                "%d files and folders are left out; check_data says why: %s",
                len(left),
                first_of([console.printable(one.path) for one in left], 10),
            )

    console.run(work, args.log)


if __name__ == "__main__":
    main()
