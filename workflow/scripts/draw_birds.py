"""Draw a fine-grained data set of synthetic birds, as an archive with the layout of CUB-200-2011."""

import argparse

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, write_digest
from dmlstudy.data.birds import write_archive


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, help="the .tgz to write")
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--images-per-class", type=int, required=True)
    parser.add_argument("--image-size", type=int, required=True, help="short side in pixels")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--first-class", type=int, default=0, help="index of the first species, from 0"
    )
    parser.add_argument("--classes-per-genus", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        progress = console.Progress(args.classes * args.images_per_class, "Drawing", "images")
        try:
            write_archive(
                args.out,
                classes=args.classes,
                images_per_class=args.images_per_class,
                image_size=args.image_size,
                seed=args.seed,
                first_class=args.first_class,
                classes_per_genus=args.classes_per_genus,
                threads=args.threads,
                progress=progress,
            )
        except ValueError as error:
            raise StudyError(str(error)) from error
        finally:
            progress.close()
        write_digest(args.out)

    console.run(work, args.log)


# Needed: the processes that draw import this file again.
if __name__ == "__main__":
    main()
